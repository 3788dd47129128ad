"""Collections are captioned into datasets that can be trained on, by however many calls it takes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_run import Toy

from evlvideo.assembly.clips import read_training_clips
from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.data import SourceConfig
from evlvideo.data.annotation.splits import read_split
from evlvideo.data.loading.collate import stack_visual_inputs
from evlvideo.errors import UserError
from evlvideo.inference import caption_collection as module
from evlvideo.inference.caption_collection import NOT_SHOWN, NOTHING_SAID, Collection, caption_collection
from evlvideo.inference.caption_files import caption_files
from evlvideo.models.processing import EvlVideoProcessor

SAMPLED = ["generation.do_sample=true", "generation.batch_size=2"]
DECODINGS = {
    "greedy": (["generation.num_beams=1"], 1),
    "beams": (["generation.num_beams=3", "generation.length_penalty=1"], 2),
    "samples": ([*SAMPLED, "generation.temperature=0.7", "generation.top_p=0.9"], 3),
}


@pytest.fixture(scope="module")
def run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.finished_run(tmp_path_factory.mktemp("collecting") / "run", fusion="concat")


@pytest.fixture
def folder(toy: Toy, tmp_path: Path) -> Path:
    """Five clips, two of them in a folder of their own."""
    (tmp_path / "clips/more").mkdir(parents=True)
    for number, clip in enumerate(toy.clips("test")[:5]):
        shutil.copy(clip.video, tmp_path / "clips" / ("more" if number > 2 else ".") / f"clip{number}.mp4")
    return tmp_path / "clips"


def collect(run: Path, given: list[Path], out: Path, changes: list[str] | None = None, **more: Any) -> Collection:
    return caption_collection(given, str(run), out, overrides=changes, **more)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_folders_get_the_captions_that_files_get(run: Path, folder: Path) -> None:
    out = folder / "captions.jsonl"
    made = collect(run, [folder], out)
    files = [*(f"clip{number}.mp4" for number in range(3)), "more/clip3.mp4", "more/clip4.mp4"]
    expected = [file.captions for file in caption_files([folder / name for name in files], str(run))]
    lines = lines_of(out)
    assert [line["video"] for line in lines] == files
    assert [line["captions"] for line in lines] == expected
    assert made == Collection(5, 5, 0, {}, folder)
    first = lines[0]["generated"]
    assert (first["model"], first["decoding"]["num_beams"], first["decoding"]["seed"]) == ("run", 2, 42)
    assert len(first["weights"]) == 16
    assert first["text"].startswith("{video}")


def test_the_file_is_a_dataset_to_train_on(toy: Toy, run: Path, folder: Path) -> None:
    collect(run, [folder], folder / "captions.jsonl", captions_per_video=2)
    source = SourceConfig(dataset="jsonl", root=str(folder))
    (clips,) = read_training_clips(toy.config(run, data={"sources": [source]}).data).values()
    assert [len(clip.captions) for clip in clips] == [2] * 5
    assert clips[3].clip_id == "more/clip3"
    made = lines_of(folder / "captions.jsonl")[0]["generated"]
    assert clips.captions_by_maker() == {f"run ({made['weights']})": 10}
    assert clips[:2].captions_by_maker() == {f"run ({made['weights']})": 4}


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_score_is_the_captions_own_mean_log_probability(
    toy: Toy, run: Path, folder: Path, decoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one pass for each token, over what stands before it."""
    changes, count = DECODINGS[decoding]
    tokens: list[torch.Tensor] = []
    keep = EvlVideoProcessor.captions
    monkeypatch.setattr(EvlVideoProcessor, "captions", lambda self, ids: tokens.append(ids) or keep(self, ids))
    collect(run, [folder / "clip0.mp4"], folder / "captions.jsonl", changes, captions_per_video=count)
    scores = lines_of(folder / "captions.jsonl")[0]["generated"]["scores"]
    config = toy.config(run, model={"fusion": "concat"})
    model, processor = open_model(run, config)
    (clip,) = read_split("jsonl", "train", folder)
    dataset = video_dataset(config.data, processor, [clip])
    prompt = model.encode(**stack_visual_inputs([dataset[0]]))
    expected = []
    for row in tokens[0].tolist():
        ids, values = processor.opening_ids(), []
        for token in row:
            given = torch.tensor([ids], dtype=torch.long)
            logits = model(soft_prompt=prompt, input_ids=given, attention_mask=torch.ones_like(given)).logits
            values.append(logits[0, -1].float().log_softmax(-1)[token].item())
            ids = [*ids, token]
            if token == processor.end_token_id:
                break
        expected.append(sum(values) / len(values))
    assert len(scores) == count
    assert scores == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("changes", [[], SAMPLED], ids=["beams", "samples"])
def test_a_killed_call_goes_on_to_the_same_file(
    run: Path, folder: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder / "captions.jsonl"
    collect(run, [folder], out, changes)
    whole = out.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (0, 20, ends[0], ends[1] + 30, ends[2] + 1):
        out.write_bytes(whole[:cut])
        made = collect(run, [folder], out, changes)
        assert out.read_bytes() == whole
        assert made.earlier == sum(end < cut for end in ends)
    monkeypatch.setattr(module, "stream_captions", refuse)
    assert collect(run, [folder], out, changes).earlier == 5
    assert out.read_bytes() == whole


def refuse(*args: Any, **kwargs: Any) -> Iterator[Any]:
    raise AssertionError("nothing is captioned twice")


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        (["generation.num_beams=1"], {}, r"decoding\.num_beams: 2 there, 1 asked for"),
        (["seed=7"], {}, r"decoding\.seed: 42 there, 7 asked for"),
        ([], {"captions_per_video": 2}, r"decoding\.captions: 1 there, 2 asked for"),
        ([], {"prompt": "a clip of"}, r"text: .* asked for"),
        (["data.num_frames=2"], {}, r"decoding\.num_frames: 3 there, 2 asked for"),
        (["model.merge_r=2"], {}, r"changes: None there, \['model\.merge_r=2'\] asked for"),
    ],
)
def test_other_settings_under_a_half_finished_file_are_refused(
    run: Path, folder: Path, changes: list[str], more: dict[str, Any], message: str
) -> None:
    out = folder / "captions.jsonl"
    collect(run, [folder / "clip0.mp4"], out)
    before = out.read_bytes()
    with pytest.raises(UserError, match=message):
        collect(run, [folder], out, changes, **more)
    assert out.read_bytes() == before


def test_another_checkpoint_is_refused(toy: Toy, run: Path, folder: Path, tmp_path: Path) -> None:
    out = folder / "captions.jsonl"
    collect(run, [folder / "clip0.mp4"], out)
    other = toy.finished_run(tmp_path / "other", fusion="mean")
    with pytest.raises(UserError, match=r"model: 'run' there, 'other' asked for"):
        collect(other, [folder], out)


@pytest.mark.parametrize("ending", ["\n", ""])
def test_captions_of_people_are_not_written_over(run: Path, folder: Path, ending: str) -> None:
    out = folder / "captions.jsonl"
    text = json.dumps({"video": "clip0.mp4", "captions": ["a ball"], "split": "train"}) + ending
    out.write_text(text)
    with pytest.raises(UserError, match=r"captions\.jsonl, line 1 is not one that `evlvideo caption --out` wrote"):
        collect(run, [folder], out)
    assert out.read_text() == text


def test_a_file_that_cannot_be_decoded_is_listed_beside_and_not_tried_again(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.mp4").write_bytes(b"this is no video")
    out = folder / "captions.jsonl"
    made = collect(run, [folder], out)
    assert list(made.bad) == ["broken.mp4"]
    assert [line["file"] for line in lines_of(folder / "captions.bad.jsonl")] == ["broken.mp4"]
    assert "cannot be decoded" in lines_of(folder / "captions.bad.jsonl")[0]["reason"]
    assert len(read_split("jsonl", "train", folder)) == 5
    monkeypatch.setattr(module, "stream_captions", refuse)
    assert list(collect(run, [folder], out).bad) == ["broken.mp4"]


def test_empty_captions_are_no_captions(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EvlVideoProcessor, "captions", lambda self, ids: [""] * len(ids))
    made = collect(run, [folder / "clip0.mp4"], folder / "captions.jsonl")
    assert made == Collection(0, 0, 0, {"clip0.mp4": NOTHING_SAID}, folder)


def test_a_video_and_an_image_of_one_name_are_two_clips(toy: Toy, run: Path, folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 40), "red").save(folder / "clip0.png")
    collect(run, [folder], folder / "captions.jsonl")
    clips = read_split("jsonl", "train", folder)
    assert [clip.clip_id for clip in clips][:2] == ["clip0", "clip0.png"]


def test_files_elsewhere_are_named_from_the_folder_that_all_are_in(run: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "made/captions.jsonl"
    made = collect(run, [folder / "more", folder / "clip0.mp4", folder / "clip0.mp4"], out)
    assert made.media_root == folder
    assert [line["video"] for line in lines_of(out)] == ["more/clip3.mp4", "more/clip4.mp4", "clip0.mp4"]
    assert lines_of(out)[0]["generated"]["media_root"] == "../clips"
    assert len(read_split("jsonl", "train", out.parent, folder)) == 3


def test_files_whose_names_no_dataset_can_hold_are_listed(run: Path, folder: Path) -> None:
    shutil.copy(folder / "clip0.mp4", folder / "a\nb.mp4")
    shutil.copy(folder / "clip0.mp4", folder / "x\udcff.mp4")
    for _ in range(2):
        made = collect(run, [folder], folder / "captions.jsonl")
        assert (made.clips, made.bad) == (5, {"a\nb.mp4": NOT_SHOWN, "x\\udcff.mp4": NOT_SHOWN})
    assert len(lines_of(folder / "captions.bad.jsonl")) == 2


def test_a_folder_without_media_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("nothing")
    with pytest.raises(UserError, match=r"empty holds no videos or images; files with these endings.*\.mp4"):
        collect(run, [tmp_path / "empty"], tmp_path / "captions.jsonl")
    with pytest.raises(UserError, match="is a directory; name the file to write"):
        collect(run, [tmp_path / "empty"], tmp_path)
