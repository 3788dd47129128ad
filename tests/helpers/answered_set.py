"""A small set of questions in VQA's form, with pictures, and answers of systems to them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from question_files import vqa_annotation, write_vqa_annotations, write_vqa_questions

from evlvideo.evaluation.score_answers import score_answer_file

IDS = (1, 2, 3, 4, 5, 6)
QUESTION_ID = 3
"""A question to look at: seven of ten people wrote `a0`, three `a1`."""
TYPES = ("yes/no", "number", "other")
RIGHT = {number: "a0" for number in IDS}
HALF = {1: "a0", 2: "a0", 3: "a1", 4: "", 5: "no", 6: "a thing that is long"}


def write_set(root: Path) -> Path:
    """Six questions about one picture, two of each answer type."""
    annotations = [
        vqa_annotation(
            number,
            answers=[{"answer": "a0", "answer_id": place} for place in range(7)]
            + [{"answer": "a1", "answer_id": 7 + place} for place in range(3)],
            answer_type=TYPES[number % 3],
            question_type=("what is", "is the")[number % 2],
        )
        for number in IDS
    ]
    root.mkdir(parents=True, exist_ok=True)
    write_vqa_questions(root, "val2014", list(IDS))
    write_vqa_annotations(root, "val2014", annotations)
    folder = root / "images" / "val2014"
    folder.mkdir(parents=True)
    pixels = np.tile(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], (90, 1, 3))
    Image.fromarray(pixels).save(folder / "COCO_val2014_000000000042.jpg")
    return root


def write_answers(path: Path, answers: Mapping[int, str]) -> Path:
    path.write_text(json.dumps([{"question_id": number, "answer": answer} for number, answer in answers.items()]))
    return path


def write_result(root: Path, name: str, answers: Mapping[int, str], metric: str | None = None) -> Path:
    """A result as `score-answers --out` writes it."""
    file = write_answers(root / f"{name}-answers.json", answers)
    metrics = [metric] if metric else []
    result = score_answer_file(file, "vqav2", root, check_counts=False, metrics=metrics, name=name)  # type: ignore[arg-type]
    out = root / "scores" / f"{name}.json"
    result.save(out)
    return out
