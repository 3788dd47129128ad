"""Run directories as training and evaluation leave them, small and made up."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evlvideo.results.prediction_files import write_predictions
from evlvideo.results.records import EvaluationResult, References
from evlvideo.results.validation_records import ValidationRecord, append_record

CLIPS = [f"video{number}" for number in range(6)]
SCORES = {"bleu_4": 0.4, "meteor": 0.3, "rouge_l": 0.6, "cider": 0.5}
DECODING = {"num_beams": 5, "max_new_tokens": 20, "min_new_tokens": 5}

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run and its evaluation; keywords change the fields of the result."""

    def make(
        name: str,
        captions: dict[str, str] | None = None,
        config: str | None = None,
        log: list[dict[str, Any]] | None = None,
        stage: str = "caption",
        validations: Sequence[ValidationRecord] = (),
        **fields: Any,
    ) -> Path:
        run = tmp_path / "runs" / name
        values: dict[str, Any] = {
            "name": name,
            "dataset": "msrvtt",
            "split": "test",
            "references": References("msrvtt:test", "aaaa", 120),
            "tokenizer": "ptb",
            "decoding": DECODING,
            "versions": {"torch": "2.15.0"},
            "commit": "0123456789abcdef",
            "seed": 42,
            "scores": SCORES,
            "per_clip": {clip: {"cider": 0.1 * index} for index, clip in enumerate(CLIPS)},
            "clips_scored": len(CLIPS),
            "clips_expected": len(CLIPS),
            "skipped": {},
            "evidence_scores": {},
            "checkpoint": str(run),
            "trained_parameters": 1_234_567,
            "training_seconds": 61.4,
        }
        values |= fields
        evaluation = run / "evaluation" / f"{values['dataset']}-{values['split']}"
        evaluation.mkdir(parents=True)
        EvaluationResult(**values).save(evaluation / "result.json")
        write_predictions(evaluation / "predictions.json", captions or dict.fromkeys(CLIPS, "a ball rolls left"))
        (run / "training.json").write_text(json.dumps({"stage": stage, "init": "mini", "steps": 10, "best_step": 5}))
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log or []))
        for record in validations:
            append_record(run, record)
        if config is not None:
            (run / "config.yaml").write_text(config)
        return run

    return make
