"""Captions of a file are kept by their scores, with all that the lines say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vlp import tiny_run
from toy_run import Toy

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.vlp import encoder_of
from evlvideo.data.annotation.splits import read_split
from evlvideo.errors import UserError
from evlvideo.inference.embed_run import ImageSize, open_run
from evlvideo.inference.filtering.agreement import agreement
from evlvideo.inference.filtering.filter_captions import Filtered, filter_captions
from evlvideo.metrics.scoring import score_captions
from evlvideo.models.vlp.hosts.encoder import Encoder
from evlvideo.training.vlp.run import pretrain

CAPTIONS = {
    "a": ["a red ball rolls", "a red ball rolls to the left", "a dog sleeps"],
    "b": ["two boxes fall", "two boxes fall"],
    "c": ["a green box waits"],
}


def write_lines(folder: Path, captions: dict[str, list[str]], **more: Any) -> Path:
    path = folder / "captions.jsonl"
    lines = [{"video": f"{name}.mp4", "captions": texts, "split": "train"} | more for name, texts in captions.items()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_agreement_is_the_cider_against_the_other_captions_of_the_clip() -> None:
    """Against the score of each caption as a prediction, with the frequencies of all."""
    scores = agreement(CAPTIONS)
    assert scores["c"] == [None]
    assert scores["a"][2] == min(score for of in scores.values() for score in of if score is not None)
    assert scores["b"][0] == scores["b"][1] == pytest.approx(scores["b"][0])
    # Two clips whose samples are the same but one: frequencies of the references alone are then those of all.
    pairs = {"a": ["one red ball", "one red ball"], "b": ["two green boxes fall", "two green boxes fall"]}
    ours = agreement(pairs)
    references = {clip: texts[:1] for clip, texts in pairs.items()}
    predictions = {clip: texts[1] for clip, texts in pairs.items()}
    theirs = score_captions(predictions, references, tokenizer="python", metrics=("cider",)).per_clip
    for clip in pairs:
        assert ours[clip][1] == pytest.approx(100 * theirs[clip]["cider"])


def test_captions_with_a_score_are_kept_and_clips_without_are_dropped(tmp_path: Path) -> None:
    made = {"model": "run", "scores": [-1.0, -2.0, -3.0]}
    path = write_lines(tmp_path, {"a": CAPTIONS["a"]}, generated=made)
    with path.open("a") as file:
        for name in ("b", "c"):
            file.write(json.dumps({"video": f"{name}.mp4", "captions": CAPTIONS[name], "split": "train"}) + "\n")
    scores = agreement(CAPTIONS)
    before, out = path.read_bytes(), tmp_path / "kept/captions.jsonl"
    kept = filter_captions(path, out, least=scores["a"][1])
    lines = lines_of(out)
    expected = {name: [at for at, score in enumerate(scores[name]) if (score or 0) >= scores["a"][1]] for name in "ab"}
    assert {line["video"][0]: line["captions"] for line in lines} == {
        name: [CAPTIONS[name][at] for at in places] for name, places in expected.items() if places
    }
    assert lines[0]["generated"]["scores"] == [made["scores"][at] for at in expected["a"]]
    assert lines[0]["filtered"][0]["by"] == "agreement"
    assert lines[0]["filtered"][0]["scores"] == pytest.approx([scores["a"][at] for at in expected["a"]], abs=1e-3)
    assert (kept.of_clips, kept.of_captions, kept.clips) == (3, 6, len(lines))
    assert path.read_bytes() == before


def test_the_best_share_is_kept_and_filters_add_up(tmp_path: Path) -> None:
    path = write_lines(tmp_path, CAPTIONS)
    once, twice = tmp_path / "once/captions.jsonl", tmp_path / "twice/captions.jsonl"
    assert filter_captions(path, once, share=0.7)[2:4] == (4, 6)
    assert filter_captions(once, twice, share=0.5).captions == 2
    assert [one["media_root"] for one in lines_of(twice)[0]["filtered"]] == [".."] * 2
    assert [len(one["scores"]) for one in lines_of(twice)[0]["filtered"]] == [len(lines_of(twice)[0]["captions"])] * 2


def test_a_line_for_each_caption_is_a_clip_of_several(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    lines = [{"video": "b.mp4", "captions": text, "split": "train"} for text in CAPTIONS["b"]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert filter_captions(path, tmp_path / "out.jsonl", share=0.5) == Filtered(1, 1, 1, 2, {}, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Name what to keep"),
        ({"least": 1.0, "share": 0.5}, "Name what to keep"),
        ({"share": 1.5}, r"The share is 1\.5; it must be above 0 and below 1"),
        ({"least": float("nan")}, "The lowest score is nan"),
        ({"least": 2000.0}, r"No caption of .* would be kept; the highest score is"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: dict[str, float], message: str) -> None:
    path = write_lines(tmp_path, CAPTIONS)
    with pytest.raises(UserError, match=message):
        filter_captions(path, tmp_path / "out.jsonl", **arguments)
    assert not (tmp_path / "out.jsonl").exists()


def test_no_file_is_written_over(tmp_path: Path) -> None:
    path = write_lines(tmp_path, CAPTIONS)
    with pytest.raises(UserError, match=r"captions\.jsonl is the file that is filtered, and is not written over"):
        filter_captions(path, path, share=0.5)
    (tmp_path / "other.jsonl").write_text("mine")
    with pytest.raises(UserError, match=r"other\.jsonl exists already, and is not written over"):
        filter_captions(path, tmp_path / "other.jsonl", share=0.5)


def test_single_captions_have_nothing_to_agree_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Every clip has a single caption, which nothing can agree with"):
        filter_captions(write_lines(tmp_path, {"c": CAPTIONS["c"]}), tmp_path / "out.jsonl", share=0.5)


@pytest.fixture(scope="module", params=["blip", "clip"])
def matcher(request: pytest.FixtureRequest, toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(tiny_run(toy.data, tmp_path_factory.mktemp("matching") / request.param, request.param))


def test_captions_are_scored_against_their_clips(toy: Toy, matcher: Path, tmp_path: Path) -> None:
    """CLIP's are its similarities; BLIP's are the probabilities of its matching."""
    clips = toy.clips("test")[:3]
    path = tmp_path / "captions.jsonl"
    names = [str(clip.video.relative_to(toy.data)) for clip in clips]
    lines = [
        {"video": name, "captions": clip.captions[:2], "split": "train", "id": clip.clip_id}
        for name, clip in zip(names, clips, strict=True)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {**lines[0], "video": "bad.mp4", "id": "x"}]))
    out = tmp_path / "out.jsonl"
    kept = filter_captions(path, out, model=str(matcher), share=0.74, media_root=toy.data)
    assert kept[:4] == (3, 4, 6, 8)
    assert list(kept.bad) == ["train:x"]
    found = [score for line in lines_of(out) for score in line["filtered"][0]["scores"]]
    config, host, tokenizer = open_run(matcher)
    encoder = encoder_of(config, host, tokenizer)
    few = [clip for clip in read_split("jsonl", "train", tmp_path, toy.data, check_files=False) if clip.clip_id != "x"]
    dataset = video_dataset(config.data, ImageSize(config.model.image_size), few)
    expected = [
        score for number, clip in enumerate(few) for score in scores_of(encoder, dataset[number], clip.captions)
    ]
    assert found == pytest.approx([score for score in expected if score >= min(found) - 1e-3], abs=1e-3)


@torch.no_grad()
def scores_of(encoder: Encoder, item: dict[str, Any], captions: tuple[str, ...]) -> list[float]:
    """A clip and one caption at a time, by the parts of the host."""
    host: Any = encoder.host
    found = []
    for caption in captions:
        text = encoder.texts([caption])
        features, tokens = encoder.images(item["pixel_values"][None])
        if not encoder.matches:
            found.append((encoder.text_features([caption]) @ features[0]).item())
            continue
        states = host.text_states(**text) if host.fuses_states else None
        logits = host.matching_logits(host.fused_states(**text, states=states, tokens=tokens))[0]
        found.append((logits[1].exp() / logits.exp().sum()).item())
    return found
