import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_run import ROOT, Toy, environment

from evlvideo.cli.app import main
from evlvideo.cli.evaluation import evaluate
from evlvideo.comparison.compare import compare
from evlvideo.config.loading import load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.evaluation.baseline import baseline_config, caption_split
from evlvideo.inference.baselines.video_text import VideoTextModel
from evlvideo.metrics.references_digest import references_digest
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.records import EvaluationResult

pytestmark = pytest.mark.usefixtures("no_java")

Family = Callable[[str], Path]
MakeConfig = Callable[..., RunConfig]

PROMPT = "Describe the video."
TOGETHER = """
import sys
sys.path[:0] = [ROOT, ROOT + "/tests/helpers"]
from pathlib import Path
from accelerate import PartialState
PartialState(cpu=True)
import toy_run
from evlvideo.config.loading import load_config
from evlvideo.evaluation.baseline import caption_split
from evlvideo.metrics import java
from evlvideo.mini import build
build.SPLITS = toy_run.SPLITS
java._java_on_path = java._java_of_package = lambda: None
caption_split(load_config(sys.argv[1]), sys.argv[2], resume=True)
"""
SETTINGS = ["generation.num_beams=2", "generation.max_new_tokens=10", "generation.min_new_tokens=1",
            "generation.batch_size=2", "data.num_frames=3", "data.num_workers=0"]  # fmt: skip


@pytest.fixture
def make_config(toy: Toy, family: Family, tmp_path: Path) -> MakeConfig:
    """The config of a system on the toy's data, with `key=value` changes."""

    def make(*changes: str, name: str = "llava_next_video", out: str = "system", root: Path | None = None) -> RunConfig:
        system = f"hf:{family(name)}"
        return baseline_config(system, [*SETTINGS, *changes], dataset="mini", root=root or toy.data, out=tmp_path / out)

    return make


def predictions(config: RunConfig, split: str = "test") -> dict[str, str]:
    return read_predictions(Path(config.output_dir) / "evaluation" / f"mini-{split}" / "predictions.json")


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Stop captioning after a number of batches."""
    caption = VideoTextModel.caption

    def after(batches: int) -> None:
        made = 0

        def stop(self: VideoTextModel, *arguments: Any) -> list[str]:
            nonlocal made
            if made == batches:
                raise KeyboardInterrupt
            made += 1
            return caption(self, *arguments)

        monkeypatch.setattr(VideoTextModel, "caption", stop)

    return after


def test_a_system_is_scored_as_runs_are_and_stands_in_one_table_with_them(
    toy: Toy, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    result = caption_split(config, PROMPT)
    run = toy.finished_run(tmp_path / "run", fusion="mean")
    ours = evaluate(run, config=replace(toy.config(run), generation=config.generation))
    for fact in ("dataset", "split", "references", "tokenizer", "decoding", "versions", "commit", "clips_expected"):
        assert getattr(result, fact) == getattr(ours, fact), fact
    assert (result.name, result.checkpoint, result.prompt) == ("system", config.init, PROMPT)
    comparison = compare([run, tmp_path / "system"], out=tmp_path / "report", gallery_clips=2)
    assert [row.row.name for row in comparison.table.rows] == ["run", "system"]


def test_predictions_and_result_are_written_as_an_evaluation_writes_them(toy: Toy, make_config: MakeConfig) -> None:
    config = make_config()
    result = caption_split(config, PROMPT, split="validate")
    clips = toy.clips("validate")
    found = predictions(config, "validate")
    assert list(found) == [clip.clip_id for clip in clips]
    directory = Path(config.output_dir) / "evaluation" / "mini-validate"
    assert EvaluationResult.load(directory / "result.json") == result
    references = {clip.clip_id: list(clip.captions) for clip in clips}
    assert result.references.sha256 == references_digest(references)
    assert result.scores == score_captions(found, references).corpus
    assert load_config(Path(config.output_dir) / "config.yaml") == config


def test_the_size_of_batches_changes_no_caption(make_config: MakeConfig) -> None:
    small, large = make_config(out="small"), make_config("generation.batch_size=5", out="large")
    caption_split(small, PROMPT)
    caption_split(large, PROMPT)
    assert predictions(small) == predictions(large)


def test_the_prompt_changes_captions(make_config: MakeConfig) -> None:
    one, other = make_config(out="one"), make_config(out="other")
    caption_split(one, PROMPT)
    caption_split(other, "a man cooks")
    assert predictions(one) != predictions(other)


def test_drawn_captions_are_those_of_the_seed(make_config: MakeConfig) -> None:
    drawn = {}
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = make_config("generation.do_sample=true", f"seed={seed}", out=out)
        torch.manual_seed(ord(out))
        caption_split(config, PROMPT)
        drawn[out] = predictions(config)
    assert drawn["a"] == drawn["b"] != drawn["c"]


@pytest.mark.parametrize("drawing", [[], ["generation.do_sample=true"]])
def test_a_stopped_run_goes_on_and_ends_as_one_that_was_not(
    make_config: MakeConfig, interrupted: Callable[[int], None], drawing: list[str]
) -> None:
    whole, stopped = make_config(*drawing, out="whole"), make_config(*drawing, out="stopped")
    expected = caption_split(whole, PROMPT)
    interrupted(2)
    with pytest.raises(KeyboardInterrupt):
        caption_split(stopped, PROMPT)
    directory = Path(stopped.output_dir) / "evaluation" / "mini-test"
    assert [path.name for path in directory.iterdir()] == ["captions-0.jsonl"]
    interrupted(1)  # one batch is left
    result = caption_split(stopped, PROMPT, resume=True)
    assert predictions(stopped) == predictions(whole)
    assert (result.scores, result.per_clip) == (expected.scores, expected.per_clip)


def test_two_processes_share_the_clips_and_go_on_with_what_one_has_made(
    make_config: MakeConfig, interrupted: Callable[[int], None], tmp_path: Path
) -> None:
    alone, together = make_config(out="alone"), make_config(out="together")
    interrupted(1)
    with pytest.raises(KeyboardInterrupt):
        caption_split(together, PROMPT)
    save_config(together, tmp_path / "config.yaml")
    (tmp_path / "program.py").write_text(f"ROOT = {str(ROOT)!r}\n{TOGETHER}")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(tmp_path / "program.py"), str(tmp_path / "config.yaml"), PROMPT],
        env=environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    logs = sorted((tmp_path / "together").rglob("captions-*.jsonl"))
    assert [len(path.read_text().splitlines()) for path in logs] == [1 + 2 + 2, 1 + 2]
    interrupted(99)
    caption_split(alone, PROMPT)
    assert predictions(together) == predictions(alone)


def test_a_finished_run_is_only_scored_again(make_config: MakeConfig, interrupted: Callable[[int], None]) -> None:
    config = make_config()
    result = caption_split(config, PROMPT)
    interrupted(0)
    assert result.captioning_clips == 6 and result.clips_per_second is not None
    again = caption_split(config, PROMPT, resume=True)
    assert replace(again, captioning_clips=6) == result


def test_captions_that_are_there_are_not_written_over(make_config: MakeConfig) -> None:
    config = make_config()
    caption_split(config, PROMPT)
    with pytest.raises(UserError, match=r"holds 6 captions already. Add --resume"):
        caption_split(config, PROMPT)


def test_captions_of_another_question_are_not_gone_on_with(make_config: MakeConfig) -> None:
    config = make_config()
    caption_split(config, PROMPT)
    with pytest.raises(UserError, match=r"prompt: 'Describe the video.' there, 'a dog' asked for"):
        caption_split(config, "a dog", resume=True)


def test_another_run_is_not_written_over(toy: Toy, make_config: MakeConfig, tmp_path: Path) -> None:
    toy.finished_run(tmp_path / "system")
    before = sorted((tmp_path / "system").rglob("*"))
    with pytest.raises(UserError, match="already holds another run; name another directory with --out"):
        caption_split(make_config(), PROMPT)
    assert sorted((tmp_path / "system").rglob("*")) == before


def test_several_splits_of_a_system_stand_beside_each_other(make_config: MakeConfig) -> None:
    config = make_config()
    for split in ("test", "validate"):
        caption_split(config, PROMPT, split=split)
    assert predictions(config).keys() != predictions(config, "validate").keys()


@pytest.fixture
def damaged(toy: Toy, tmp_path: Path) -> Path:
    """The toy's data with two videos of the test split that cannot be decoded."""
    shutil.copytree(toy.data, tmp_path / "data")
    for clip in toy.clips("test")[1:3]:
        (tmp_path / "data" / "videos" / clip.video.name).write_bytes(b"no video")
    return tmp_path / "data"


def test_bad_clips_are_named_and_the_score_is_partial(
    toy: Toy, make_config: MakeConfig, damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [clip.clip_id for clip in toy.clips("test")[1:3]]
    with caplog.at_level(logging.WARNING, logger="evlvideo"):
        result = caption_split(make_config(root=damaged), PROMPT)
    assert result.missing_clips == bad
    assert (result.clips_scored, result.clips_expected) == (4, 6)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == bad


def test_bad_clips_that_were_mended_are_captioned_when_the_run_goes_on(
    toy: Toy, make_config: MakeConfig, damaged: Path
) -> None:
    caption_split(make_config(root=damaged), PROMPT)
    shutil.copytree(toy.data, damaged, dirs_exist_ok=True)
    mended = caption_split(make_config(root=damaged), PROMPT, resume=True)
    assert mended.missing_clips == []
    whole = make_config(out="whole")
    caption_split(whole, PROMPT)
    assert predictions(make_config()) == predictions(whole)


def test_nothing_that_can_be_decoded_is_a_user_error(toy: Toy, make_config: MakeConfig, damaged: Path) -> None:
    for video in (damaged / "videos").iterdir():
        video.write_bytes(b"")
    with pytest.raises(UserError, match="No clip could be decoded"):
        caption_split(make_config(root=damaged), PROMPT)


def test_empty_captions_are_told(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(VideoTextModel, "caption", lambda self, clips, generation: [""] * len(clips))
    with caplog.at_level(logging.WARNING, logger="evlvideo"):
        caption_split(make_config(), PROMPT)
    assert "6 of 6 captions are empty, and score 0: video12" in caplog.text


class TestConfig:
    def test_what_changes_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            UserError, match=r"training.max_steps, model.merge_r change nothing of another system; allowed"
        ):
            baseline_config(
                "hf:m", ["training.max_steps=3", "model.merge_r=2", "seed=1"], dataset=None, root=None, out=tmp_path
            )

    @pytest.mark.parametrize("system", ["LanguageBind/Video-LLaVA-7B-hf", "hf:", ""])
    def test_a_system_of_another_kind_is_refused(self, system: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="name a model of transformers as hf:NAME"):
            baseline_config(system, [], dataset=None, root=None, out=tmp_path)

    def test_an_unknown_data_set_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"data.dataset is 'none'; allowed"):
            baseline_config("hf:m", [], dataset="none", root=None, out=tmp_path)


@pytest.mark.usefixtures("restore_logging")
class TestCommand:
    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["evlvideo", "baseline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    def test_it_prints_scores_and_where_they_are(
        self,
        toy: Toy,
        family: Family,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        arguments = [f"hf:{family('video_llava')}", "--prompt", PROMPT, "--dataset", "mini", "--root", toy.data]
        code = self.run(monkeypatch, *arguments, "--out", tmp_path / "out", *SETTINGS)
        said = capsys.readouterr().out
        assert code == 0
        assert "CIDEr" in said and "6 of 6 clips" in said
        assert f"Predictions and scores are in {tmp_path / 'out' / 'evaluation' / 'mini-test'}." in said

    def test_another_number_of_frames_than_the_model_takes(
        self,
        toy: Toy,
        family: Family,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        arguments = [f"hf:{family('instructblip_video')}", "--prompt", PROMPT, "--dataset", "mini", "--root", toy.data]
        code = self.run(monkeypatch, *arguments, "--out", tmp_path / "out", "data.num_frames=8")
        assert code == 2
        assert "wants 4 frames of each clip, and data.num_frames is 8. Set data.num_frames=4" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
