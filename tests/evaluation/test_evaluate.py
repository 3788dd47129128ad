import re
import shutil
import traceback
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from toy_run import SPLITS, Toy

from evlvideo.assembly.clips import references_of
from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.comparison.compare import compare
from evlvideo.comparison.rows.gather import gather_systems
from evlvideo.comparison.rows.scoring import ScoringRequest
from evlvideo.config.generation import GenerationConfig
from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.evaluation import evaluate as evaluate_module
from evlvideo.evaluation import split_scores
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.evaluation.score import score_lines
from evlvideo.evaluation.shuffled_frames import ShuffledFrames
from evlvideo.files import read_json, write_json
from evlvideo.inference.captioning import decoding_facts, generate_captions
from evlvideo.inference.captions import Caption
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.references_digest import references_digest
from evlvideo.metrics.scoring import score_captions
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.records import EvaluationResult

pytestmark = pytest.mark.usefixtures("no_java")

NO_ORDER: dict[str, dict[str, Any]] = {
    "mean": {"fusion": "mean"},
    "in_tower": {"fusion": "mean", "contextualizer": "in_tower"},
    "merged": {"fusion": "mean_tokens", "contextualizer": "merged"},
}
ORDER: dict[str, dict[str, Any]] = {
    "in_tower_positions": {**NO_ORDER["in_tower"], "frame_positions": True},
    "merged_positions": {**NO_ORDER["merged"], "frame_positions": True},
}


class Frames(Dataset[dict[str, Any]]):
    """Clips whose frames tell their number."""

    def __init__(self, clips: int, frames: int) -> None:
        self.clips, self.frames = clips, frames

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"clip_id": str(index), "pixel_values": torch.arange(self.frames).reshape(-1, 1, 1, 1), "captions": []}


def order(frames: Tensor) -> list[int]:
    return frames.flatten().tolist()


@pytest.fixture(scope="module")
def run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the package's own layout, not to be changed but for its evaluations."""
    directory = toy.finished_run(tmp_path_factory.mktemp("evaluated") / "system", fusion="mean")
    write_json(directory / "training.json", {"training_seconds": 12.5})
    return directory


@pytest.fixture
def result(run: Path) -> EvaluationResult:
    return evaluate(run)


@pytest.mark.parametrize("frames", [2, 3, 8])
def test_shuffled_frames_are_the_same_frames_in_another_order(frames: int) -> None:
    shuffled = ShuffledFrames(Frames(40, frames), seed=1)
    for index in range(len(shuffled)):
        found = order(shuffled[index]["pixel_values"])
        assert sorted(found) == list(range(frames)) != found


def test_shuffled_frames_are_in_the_same_order_at_every_call() -> None:
    first, second = (ShuffledFrames(Frames(10, 8), seed=3) for _ in range(2))
    for index in range(10):
        assert order(first[index]["pixel_values"]) == order(second[index]["pixel_values"])


def test_shuffled_frames_have_an_order_of_their_own_in_each_clip() -> None:
    shuffled = ShuffledFrames(Frames(10, 8), seed=3)
    assert len({tuple(order(shuffled[index]["pixel_values"])) for index in range(10)}) > 5


def test_a_single_frame_stays_where_it_is() -> None:
    assert order(ShuffledFrames(Frames(1, 1), seed=0)[0]["pixel_values"]) == [0]


def test_shuffling_leaves_the_rest_of_an_item_alone() -> None:
    shuffled = ShuffledFrames(Frames(3, 4), seed=0)
    assert len(shuffled) == 3
    assert shuffled[2]["clip_id"] == "2"


def captions_in_both_orders(
    toy: Toy, directory: Path, model: dict[str, Any]
) -> tuple[dict[str, Caption], dict[str, Caption]]:
    run = toy.finished_run(directory, open_gates=True, **model)
    config = toy.config(run)
    captioner, processor = open_model(run, config)
    dataset = video_dataset(config.data, processor, [*toy.clips("test"), *toy.clips("train")])
    # Of one length, so that there is much that can differ.
    generation = GenerationConfig(num_beams=2, max_new_tokens=12, min_new_tokens=12)
    straight = generate_captions(captioner, processor, dataset, generation)
    shuffled = generate_captions(captioner, processor, ShuffledFrames(dataset, 0), generation)
    return straight, shuffled


@pytest.mark.parametrize("form", NO_ORDER)
def test_forms_without_frame_positions_do_not_see_the_order(toy: Toy, tmp_path: Path, form: str) -> None:
    straight, shuffled = captions_in_both_orders(toy, tmp_path / "run", NO_ORDER[form])
    assert shuffled == straight


@pytest.mark.parametrize("form", ORDER)
def test_forms_with_frame_positions_see_the_order(toy: Toy, tmp_path: Path, form: str) -> None:
    straight, shuffled = captions_in_both_orders(toy, tmp_path / "run", ORDER[form])
    assert shuffled != straight


def test_every_clip_of_the_split_has_a_prediction(toy: Toy, run: Path, result: EvaluationResult) -> None:
    predictions = read_predictions(run / "evaluation" / "mini-test" / "predictions.json")
    assert set(predictions) == {clip.clip_id for clip in toy.clips("test")}
    assert result.clips_scored == result.clips_expected == len(predictions)


def test_the_result_is_written_as_it_is_returned(run: Path, result: EvaluationResult) -> None:
    assert EvaluationResult.load(run / "evaluation" / "mini-test" / "result.json") == result


def test_the_result_says_what_it_depends_on(toy: Toy, run: Path, result: EvaluationResult) -> None:
    assert (result.name, result.dataset, result.split) == ("system", "mini", "test")
    assert result.references.description == "mini:test"
    assert result.references.sha256 == references_digest(references_of(toy.clips("test")))
    assert result.references.captions == 6 * 20
    assert result.decoding == {
        "num_beams": 2,
        "max_new_tokens": 10,
        "min_new_tokens": 1,
        "length_penalty": 1.0,
        "num_frames": 3,
        "sampling": "uniform",
    }
    assert (result.seed, result.checkpoint, result.training_seconds) == (42, str(run), 12.5)
    assert result.versions["torch"] == version("torch")
    assert result.trained_parameters is not None and result.trained_parameters > 0
    assert result.captioning_clips == 6
    assert result.captioning_seconds is not None and result.captioning_seconds > 0


def test_the_result_names_a_repetition_penalty(toy: Toy) -> None:
    config = toy.config(Path("unused"))
    assert "repetition_penalty" not in decoding_facts(config)
    config.generation.repetition_penalty = 1.5
    assert decoding_facts(config)["repetition_penalty"] == 1.5


def test_the_result_names_forbidden_words(toy: Toy) -> None:
    config = toy.config(Path("unused"))
    assert "forbidden_words" not in decoding_facts(config)
    config.generation.forbidden_words = ["cat"]
    assert decoding_facts(config)["forbidden_words"] == ["cat"]


def test_scores_are_those_of_the_predictions(toy: Toy, run: Path, result: EvaluationResult) -> None:
    predictions = read_predictions(run / "evaluation" / "mini-test" / "predictions.json")
    scores = score_captions(predictions, references_of(toy.clips("test")))
    assert result.scores == scores.corpus
    assert result.per_clip == scores.per_clip


def test_without_java_meteor_is_named_as_skipped(result: EvaluationResult) -> None:
    assert set(result.scores) == set(METRICS) - {"meteor"}
    assert "no Java runtime" in result.skipped["meteor"]
    assert result.tokenizer == "python"


def test_scores_by_evidence_are_means_over_their_clips(toy: Toy, result: EvaluationResult) -> None:
    by_evidence: dict[str, list[str]] = {}
    for clip in toy.clips("test"):
        assert clip.evidence is not None
        by_evidence.setdefault(clip.evidence, []).append(clip.clip_id)
    assert set(by_evidence) == {"one_frame", "several_frames", "frame_order"}
    assert result.evidence_clips == {name: len(members) for name, members in by_evidence.items()}
    assert result.evidence_scores is not None
    for name, members in by_evidence.items():
        mean = sum(result.per_clip[clip_id]["cider"] for clip_id in members) / len(members)
        assert result.evidence_scores[name]["cider"] == pytest.approx(mean)


def test_evaluating_twice_gives_the_same(run: Path, result: EvaluationResult) -> None:
    predictions = run / "evaluation" / "mini-test" / "predictions.json"
    before = predictions.read_bytes()
    assert evaluate(run) == result
    assert predictions.read_bytes() == before


def test_another_split_has_a_place_of_its_own(toy: Toy, run: Path) -> None:
    found = evaluate(run, split="validate")
    assert set(found.per_clip) == {clip.clip_id for clip in toy.clips("validate")}
    assert (run / "evaluation" / "mini-validate" / "result.json").is_file()


def test_shuffled_frames_stand_beside_and_in_the_result(toy: Toy, tmp_path: Path) -> None:
    run = toy.finished_run(tmp_path / "run", open_gates=True, **ORDER["in_tower_positions"])
    straight, shuffled = evaluate(run), evaluate(run, shuffle_frames=True)
    assert shuffled.decoding == {**straight.decoding, "shuffled_frames": True}
    beside = [run / "evaluation" / name for name in ("mini-test", "mini-test-shuffled")]
    assert [EvaluationResult.load(path / "result.json") for path in beside] == [straight, shuffled]
    first, second = (read_predictions(path / "predictions.json") for path in beside)
    assert first.keys() == second.keys()


def test_other_decoding_stands_in_the_result(toy: Toy, run: Path) -> None:
    config: RunConfig = replace(toy.config(run), generation=GenerationConfig(num_beams=1, max_new_tokens=6))
    found = evaluate(run, split="validate", config=config)
    assert (found.decoding["num_beams"], found.decoding["max_new_tokens"]) == (1, 6)


def test_the_batch_size_is_no_part_of_the_decoding(result: EvaluationResult) -> None:
    assert "batch_size" not in result.decoding


def test_a_run_that_named_some_of_its_connectors_options_is_itself(toy: Toy, tmp_path: Path) -> None:
    run = toy.finished_run(tmp_path / "run", connector="blip2", connector_options={"num_queries": 5})
    assert evaluate(run, split="validate").clips_scored == 4


def test_other_options_of_the_connector_are_another_model(toy: Toy, tmp_path: Path) -> None:
    run = toy.finished_run(tmp_path / "run", connector="average_pool", connector_options={"side": 4})
    other = toy.config(run, model={"connector_options": {"side": 2}})
    with pytest.raises(UserError, match=r"model.connector_options would make another model"):
        evaluate(run, split="validate", config=other)


def test_a_directory_without_a_checkpoint_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        evaluate(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_is_refused_and_nothing_written(toy: Toy, tmp_path: Path) -> None:
    run = toy.finished_run(tmp_path / "run")
    before = sorted(run.rglob("*"))
    with pytest.raises(UserError, match="no split 'tset'; allowed: train, validate, test"):
        evaluate(run, split="tset")
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("error", [UserError("The tokenizer failed."), ZeroDivisionError("what nobody foresaw")])
def test_captions_are_kept_if_scoring_fails(
    toy: Toy, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy.finished_run(tmp_path / "run", fusion="mean")
    captions = read_predictions(evaluated(run) / "predictions.json")
    (evaluated(run) / "predictions.json").unlink()

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(split_scores, "score_captions", fail)
    with pytest.raises(type(error)) as caught:
        evaluate(run)
    told = "".join(traceback.format_exception_only(caught.value))
    assert str(error) in told
    assert f"The captions are in {run}/evaluation/mini-test/predictions.json; score them with" in told
    assert read_predictions(run / "evaluation/mini-test/predictions.json") == captions
    # It was of the captions before.
    assert not (run / "evaluation/mini-test/result.json").exists()


def evaluated(run: Path) -> Path:
    evaluate(run)
    return run / "evaluation" / "mini-test"


def test_captions_are_kept_if_the_run_cannot_hold_them(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy.finished_run(tmp_path / "run", fusion="mean")

    def captions_and_no_room(*args: Any, **kwargs: Any) -> Any:
        captions = generate_captions(*args, **kwargs)
        shutil.rmtree(run / "evaluation", ignore_errors=True)
        (run / "evaluation").write_text("in the way")
        return captions

    monkeypatch.setattr(evaluate_module, "generate_captions", captions_and_no_room)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match=rf"cannot be written .*The captions are in {tmp_path}/") as caught:
        evaluate(run)
    kept = Path(str(caught.value).rpartition("captions are in ")[2].rstrip("."))
    assert len(read_predictions(kept)) == SPLITS["test"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root can write")
def test_a_place_that_cannot_be_written_to_is_told_before_the_model_is_loaded(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy.finished_run(tmp_path / "run", fusion="mean")
    (run / "evaluation").symlink_to("/proc/self")
    monkeypatch.setattr(evaluate_module, "open_model", None)
    with pytest.raises(UserError, match=r"evaluation/mini-test cannot be written to.*copy the run"):
        evaluate(run)


@pytest.fixture
def damaged(toy: Toy, tmp_path: Path) -> Path:
    """The toy's data with two videos of the test split that cannot be decoded."""
    shutil.copytree(toy.data, tmp_path / "data")
    for clip, content in zip(toy.clips("test")[1:3], (b"", b"no video"), strict=True):
        (tmp_path / "data" / "videos" / clip.video.name).write_bytes(content)
    return tmp_path / "data"


def test_special_tokens_inside_captions_are_recorded_and_said(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = toy.finished_run(tmp_path / "run", fusion="mean")
    plain = evaluate(run)
    assert plain.special_tokens == {}
    assert "special-tokens" not in caplog.text
    original = EvlVideoProcessor.special_tokens

    def special(self: EvlVideoProcessor, token_ids: Tensor) -> list[list[str]]:
        assert original(self, token_ids) == [[]] * len(token_ids)
        return [["<s>", "</s>", "<s>"], *original(self, token_ids)[1:]]

    monkeypatch.setattr(EvlVideoProcessor, "special_tokens", special)
    result = evaluate(run)
    assert result.special_tokens == {"<s>": 2, "</s>": 1}
    assert EvaluationResult.load(run / "evaluation" / "mini-test" / "result.json").special_tokens == {
        "<s>": 2,
        "</s>": 1,
    }
    assert f"1 of {SPLITS['test']} captions hold special tokens: <s> ×2, </s> ×1." in caplog.text


def test_clips_that_cannot_be_decoded_are_named_and_the_score_is_partial(
    toy: Toy, tmp_path: Path, damaged: Path
) -> None:
    run = toy.finished_run(tmp_path / "run")
    config = toy.config(run)
    result = evaluate(run, config=replace(config, data=replace(config.data, root=str(damaged))))
    clips = [clip.clip_id for clip in toy.clips("test")]
    assert result.missing_clips == clips[1:3]
    assert (result.clips_scored, result.clips_expected) == (len(clips) - 2, len(clips))
    assert list(result.per_clip) == [clip for clip in clips if clip not in clips[1:3]]
    assert f"PARTIAL: 2 clips could not be decoded and are in no score: {', '.join(clips[1:3])}" in score_lines(result)
    whole = evaluate(run, config=config)
    assert whole.references == result.references  # they are to be compared, with a mark
    assert whole.missing_clips == []


def test_nothing_that_can_be_decoded_is_a_user_error(toy: Toy, tmp_path: Path, damaged: Path) -> None:
    for video in (damaged / "videos").iterdir():
        video.write_bytes(b"")
    run = toy.finished_run(tmp_path / "run")
    config = toy.config(run)
    with pytest.raises(UserError, match="No clip could be decoded"):
        evaluate(run, config=replace(config, data=replace(config.data, root=str(damaged))))
    assert not (run / "evaluation").exists()


@pytest.fixture
def part(toy: Toy, tmp_path: Path) -> Path:
    """The toy's data without one clip of the test split."""
    shutil.copytree(toy.data, tmp_path / "part")
    path = tmp_path / "part" / "test_videodatainfo.json"
    content = read_json(path)
    left_out = content["videos"].pop()["video_id"]
    content["sentences"] = [entry for entry in content["sentences"] if entry["video_id"] != left_out]
    write_json(path, content)
    return tmp_path / "part"


def test_a_part_of_a_split_is_evaluated_when_said_so_and_marked(toy: Toy, tmp_path: Path, part: Path) -> None:
    run = toy.finished_run(tmp_path / "run")
    config = toy.config(run)
    of_part = replace(config, data=replace(config.data, root=str(part), check_counts=False))
    with pytest.raises(UserError, match=r"lists 5 clips of mini:test, which has 6.*data\.check_counts=false"):
        evaluate(run, config=replace(of_part, data=replace(of_part.data, check_counts=True)))
    result = evaluate(run, config=of_part)
    assert result.deviations == ["The annotation lists 5 clips of mini:test, which has 6"]
    line = "NOT THE PUBLISHED SPLIT: The annotation lists 5 clips of mini:test, which has 6. "
    assert any(found.startswith(line) for found in score_lines(result))
    assert evaluate(run, config=config).deviations == []


def test_evaluations_on_several_roots_stand_beside_each_other_and_can_be_compared(
    toy: Toy, tmp_path: Path, part: Path
) -> None:
    run = toy.finished_run(tmp_path / "run")
    config = toy.config(run)
    save_config(config, run / "config.yaml")
    own = evaluate(run)
    other = evaluate(run, config=replace(config, data=replace(config.data, root=str(part), check_counts=False)))
    names = sorted(path.name for path in (run / "evaluation").iterdir())
    assert names[0] == "mini-test"
    assert re.fullmatch(r"mini@part-[0-9a-f]{6}-test", names[1])
    assert len(names) == 2
    for split, expected in (("test", own), (f"{names[1].removesuffix('-test')}:test", other)):
        gathered = gather_systems([run], split, ScoringRequest(human=True))
        assert gathered.systems[0].result == expected
        assert gathered.systems[-1].result.deviations == expected.deviations
    table = compare([run], out=tmp_path / "report", split=f"{names[1].removesuffix('-test')}:test", quoted=True).table
    assert "not the published one, 5 clips" in table.title
    assert any(remark.endswith("These scores compare with no published number.") for remark in table.remarks)
