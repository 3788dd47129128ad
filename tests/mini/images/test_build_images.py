"""The mini images: what pictures show, and how the set is written in three forms and read again."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from evlvideo.config.generation import AnsweringConfig
from evlvideo.data.annotation.facts import DATASETS
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.data.annotation.splits import read_split
from evlvideo.data.loading.shards.clips import ShardClips, find_shards
from evlvideo.data.verify import verify
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.errors import UserError
from evlvideo.files import read_json
from evlvideo.inference.answering import asked
from evlvideo.mini.images import build
from evlvideo.mini.render import render_clip

TINY = {"shards": 5, "lavis": 3, "train": 4, "validate": 2, "test": 3}
SPLITS = ("train", "validate", "test")


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "PICTURES_PER_SHARD", 2)
        return build.build_mini_images(tmp_path_factory.mktemp("images") / "set", seed=3, progress=False, sizes=TINY)


def test_shards_are_webdatasets_with_one_caption_a_picture(tiny_root: Path) -> None:
    shards = find_shards(tiny_root / "shards")
    assert [shard.name for shard in shards] == ["00000.tar", "00001.tar", "00002.tar"]
    with tarfile.open(shards[1]) as archive:
        assert archive.getnames() == ["000010000.jpg", "000010000.json", "000010001.jpg", "000010001.json"]
        member = archive.extractfile("000010000.json")
        assert member is not None
        assert json.load(member)["caption"] == build.sample_item("shards", 2, seed=3).captions[0]
    clips = ShardClips(shards)
    assert [clip.captions for clip in clips] == [
        (build.sample_item("shards", index, seed=3).captions[0],) for index in range(5)
    ]


def test_the_lavis_list_has_one_caption_a_picture(tiny_root: Path) -> None:
    clips = read_split("lavis", "train", tiny_root / "lavis")
    assert [list(clip.captions) for clip in clips] == [
        build.sample_item("lavis", index, seed=3).captions for index in range(3)
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_the_coco_like_part_has_five_captions_a_picture(tiny_root: Path, split: str) -> None:
    clips = read_split("mini_images", split, tiny_root, check_counts=False)
    assert [list(clip.captions) for clip in clips] == [
        build.sample_item(split, index, seed=3).captions for index in range(TINY[split])
    ]
    assert all(len(set(clip.captions)) == build.CAPTIONS_PER_PICTURE for clip in clips)


def test_it_is_read_as_coco_and_vqav2_too(tiny_root: Path) -> None:
    assert list(read_split("coco", "train", tiny_root, check_counts=False)) == list(
        read_split("mini_images", "train", tiny_root, check_counts=False)
    )
    assert read_questions("vqav2", "validate", tiny_root, check_counts=False) == read_questions(
        "mini_images", "validate", tiny_root
    )


def test_pictures_are_what_was_rendered(tiny_root: Path) -> None:
    clip = read_split("mini_images", "test", tiny_root, check_counts=False)[1]
    picture = render_clip(build.sample_item("test", 1, seed=3).scene)[0]
    decoded = decode_frames_guarded(clip.video, lambda frames, seconds: [0], 64).frames[0]
    assert decoded.shape == (64, 64, 3)
    assert abs(float(decoded.mean()) - float(picture.mean())) < 4


@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_the_same_in_both_forms(tiny_root: Path, split: str) -> None:
    questions = read_questions("mini_images", split, tiny_root)
    own = read_questions("jsonl_qa", split, tiny_root)
    assert len(questions) == build.QUESTIONS_PER_PICTURE * TINY[split]
    for one, other in zip(questions, own, strict=True):
        assert (one.question_id, one.text, one.answers) == (other.question_id, other.text, other.answers)
        assert (one.answer_type, one.question_type) == (other.answer_type, other.question_type)
        assert one.video.samefile(other.video)


def test_questions_with_their_answers_are_texts_to_train_on(tiny_root: Path) -> None:
    clips = read_split("jsonl", "train", tiny_root)
    questions = read_questions("mini_images", "train", tiny_root)
    texts = [text for clip in clips for text in clip.captions]
    assert len(texts) == len(questions)
    for text, question in zip(texts, questions, strict=True):
        prompt = asked(question.text, AnsweringConfig())
        assert text == f"{prompt} {max(question.answers, key=question.answers.count)}"


def test_a_questions_most_common_answer_is_written(tiny_root: Path) -> None:
    for annotation in read_json(tiny_root / "annotations" / "v2_mscoco_train2014_annotations.json")["annotations"]:
        answers = [answer["answer"] for answer in annotation["answers"]]
        assert answers.count(annotation["multiple_choice_answer"]) == max(map(answers.count, answers))


def test_verify_counts_captions_and_questions(tiny_root: Path) -> None:
    report = verify("mini_images", tiny_root, check_counts=False, decode=True)
    assert report.complete
    counted = [(split.split, split.clips, split.units[0]) for split in report.splits]
    assert counted == [
        *((split, TINY[split], "clips") for split in SPLITS),
        *((split, 3 * TINY[split], "questions") for split in SPLITS),
    ]


def test_verify_tells_that_a_build_is_smaller(tiny_root: Path) -> None:
    problems = verify("mini_images", tiny_root).problems
    assert any(f"lists 4 clips of mini_images:train, which has {build.SIZES['train']}" in told for told in problems)


def test_the_dataset_has_the_built_sizes() -> None:
    facts = DATASETS["mini_images"]
    assert dict(facts.clips()) == {split: build.SIZES[split] for split in SPLITS}
    assert facts.captions_per_clip == build.CAPTIONS_PER_PICTURE


def test_a_build_is_the_same_twice(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PICTURES_PER_SHARD", 2)
    again = build.build_mini_images(tmp_path / "again", seed=3, progress=False, sizes=TINY)
    names = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert len(names) == 3 + (1 + 3) + (1 + 2 * 3 + 2) + (4 + 2 + 3) + 1
    assert all((tiny_root / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_another_seed_gives_other_pictures() -> None:
    scenes = [build.sample_item("test", 0, seed=seed).scene for seed in (0, 1)]
    assert not np.array_equal(render_clip(scenes[0])[0], render_clip(scenes[1])[0])


def test_a_finished_build_is_reused(tiny_root: Path) -> None:
    before = (tiny_root / "questions.jsonl").stat().st_mtime_ns
    assert build.build_mini_images(tiny_root, seed=3, progress=False, sizes=TINY) == tiny_root
    assert (tiny_root / "questions.jsonl").stat().st_mtime_ns == before


def test_a_directory_with_something_else_is_refused(tmp_path: Path, tiny_root: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"other files.*name another directory"):
        build.build_mini_images(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match=r"another build.*not the mini image dataset"):
        build.build_mini_images(tiny_root, seed=4, progress=False, sizes=TINY)
