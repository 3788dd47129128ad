from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from evlvideo.comparison.page import gallery
from evlvideo.comparison.page.clip_media import ClipFrames
from evlvideo.comparison.page.inspection import Inspection
from evlvideo.comparison.page.report import render_report
from evlvideo.comparison.rows.row import system_row
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.tables.table import build_table
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError

CONFIG = "data: {dataset: msrvtt, root: nowhere}\n"


def read_frames(clip: CaptionedClip) -> ClipFrames:
    return ClipFrames([np.zeros((8, 8, 3), np.uint8)] * 4)


@pytest.fixture
def annotated(monkeypatch, tmp_path):
    """Give clips video0 … video5 in two categories, without files."""
    clips = [
        CaptionedClip(f"video{index}", tmp_path / f"video{index}.mp4", ("a ball", "a red ball"), category=index % 2)
        for index in range(6)
    ]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)


def test_the_choice_is_spread_over_the_kinds():
    kinds = {f"a{index}": "common" for index in range(90)} | {f"b{index}": "rare" for index in range(4)}
    chosen = gallery.choose_clips(kinds, 10)
    assert Counter(kinds[clip] for clip in chosen) == {"common": 6, "rare": 4}


def test_the_choice_depends_on_the_seed_alone():
    kinds = {f"video{index}": "" for index in range(50)}
    backwards = dict(reversed(kinds.items()))
    assert gallery.choose_clips(kinds, 9, seed=3) == gallery.choose_clips(backwards, 9, seed=3)
    assert gallery.choose_clips(kinds, 9, seed=3) != gallery.choose_clips(kinds, 9, seed=4)


def test_more_clips_than_there_are_gives_all_once():
    kinds = {f"video{index}": str(index % 2) for index in range(5)}
    assert sorted(gallery.choose_clips(kinds, 24)) == sorted(kinds)


def test_cards_hold_captions_scores_references_and_frames(make_run, annotated):
    captions = {f"video{index}": f"caption {index}" for index in range(6)}
    better = {clip: {"cider": 2.0} for clip in captions}
    runs = [make_run("mean", captions=captions, config=CONFIG), make_run("concat", per_clip=better)]
    built = gallery.build_gallery(read_runs(runs, "test"), 6, read_frames=read_frames)
    card = next(card for card in built.cards if card.clip_id == "video3")
    assert [caption.text for caption in card.captions] == ["caption 3", "a ball rolls left"]
    assert [caption.cider for caption in card.captions] == pytest.approx([0.3, 2.0])
    assert [caption.best for caption in card.captions] == [False, True]
    assert card.spread == pytest.approx(1.7)
    assert card.references == ("a ball", "a red ball")
    assert len(card.images) == 4
    assert built.cards_by_kind == {"music": 3, "people": 3}
    assert built.remarks == ()


def test_missing_videos_leave_out_the_images_and_say_so(make_run, annotated):
    built = gallery.build_gallery(read_runs([make_run("mean", config=CONFIG)], "test"), 3)
    assert len(built.cards) == 3
    assert all(card.images == () and card.references for card in built.cards)
    assert "shown without frames" in built.remarks[0]


def test_a_page_that_is_full_says_how_many_clips_have_no_frames(make_run, annotated, monkeypatch):
    monkeypatch.setattr(gallery, "MEDIA_BYTES", 5000)
    built = gallery.build_gallery(read_runs([make_run("mean", config=CONFIG)], "test"), 6, read_frames=read_frames)
    without = sum(not card.images for card in built.cards)
    assert 0 < without < 6
    assert built.remarks == (f"{without} of 6 clips are shown without frames, which would make the page too large.",)


def test_kinds_and_wins_are_over_all_clips_whatever_is_shown(make_run, annotated):
    better = {f"video{index}": {"cider": 0.25} for index in range(6)}
    runs = read_runs([make_run("mean", config=CONFIG), make_run("concat", per_clip=better)], "test")
    built = gallery.build_gallery(runs, 1, read_frames=read_frames)
    assert [(kind.name, kind.clips) for kind in built.kinds] == [("music", 3), ("people", 3)]
    assert built.kinds[0].means == pytest.approx((0.2, 0.25))
    assert built.wins.alone == (3, 3)
    assert len(built.cards) == 1


def test_people_are_shown_but_do_not_compete(make_run, annotated):
    people = {f"video{index}": {"cider": 5.0} for index in range(6)}
    runs = read_runs([make_run("mean", config=CONFIG), make_run("concat"), make_run("people", per_clip=people)], "test")
    runs[2] = replace(runs[2], is_human=True)
    built = gallery.build_gallery(runs, 6, read_frames=read_frames)
    assert built.contenders == (0, 1)
    assert built.wins.alone == (0, 0, 0)
    assert [caption.cider for caption in built.cards[0].captions][2] == 5.0
    assert not any(caption.best for card in built.cards for caption in card.captions)


def test_some_missing_videos_are_counted(make_run, annotated):
    def some(clip: CaptionedClip) -> ClipFrames:
        if clip.clip_id == "video0":
            raise UserError("video0.mp4 is missing.")
        return read_frames(clip)

    built = gallery.build_gallery(read_runs([make_run("mean", config=CONFIG)], "test"), 6, read_frames=some)
    assert built.remarks == ("1 clip is shown without frames: video0.mp4 is missing.",)


def test_annotations_that_cannot_be_read_leave_the_captions(make_run):
    built = gallery.build_gallery(read_runs([make_run("mean", config=CONFIG)], "test"), 3)
    assert [card.references for card in built.cards] == [()] * 3
    assert "nowhere" in built.remarks[0]


def test_a_run_without_a_config_is_shown_by_its_captions(make_run):
    built = gallery.build_gallery(read_runs([make_run("mean")], "test"), 3)
    assert built.cards[0].captions[0].text == "a ball rolls left"
    assert "No run says where its clips are" in built.remarks[0]


def test_a_clip_that_one_system_did_not_caption_is_shown(make_run, annotated):
    runs = [make_run("all", config=CONFIG), make_run("none", captions={"video0": "x"}, per_clip={}, clips_scored=0)]
    built = gallery.build_gallery(read_runs(runs, "test"), 6, read_frames=read_frames)
    card = next(card for card in built.cards if card.clip_id == "video1")
    assert (card.captions[1].text, card.captions[1].cider) == (None, None)


@pytest.mark.parametrize(
    ("dataset", "fields", "name"),
    [
        ("mini", {"evidence": "frame_order", "category": 1}, "frame order"),
        ("msrvtt", {"category": 0}, "music"),
        ("msrvtt", {"category": 19}, "advertisement"),
        ("msrvtt", {"category": 20}, "category 20"),
        ("jsonl", {"category": 0}, "category 0"),
        ("jsonl", {}, ""),
    ],
)
def test_kinds_are_the_evidence_or_category(tmp_path, dataset, fields, name):
    assert gallery.kind_of(CaptionedClip("video0", tmp_path, ("a ball",), **fields), dataset) == name


def test_a_page_of_thousands_of_clips_shows_as_many_as_fit_and_says_so(make_run):
    captions = {f"video{index}": f"a man <{index}> " + "x" * 400 for index in range(3000)}
    per_clip = {clip_id: {"cider": 0.5} for clip_id in captions}
    runs = read_runs([make_run(name, captions=captions, per_clip=per_clip) for name in ("one", "two")], "test")
    built = gallery.build_gallery(runs, 3000, read_frames=read_frames)
    assert 100 < len(built.cards) < 3000
    left = f"{3000 - len(built.cards):,} of 3,000 clips that were to be shown are left out"
    assert any(remark.startswith(left) for remark in built.remarks)
    page = render_report(build_table("t", [system_row(run) for run in runs]), runs, built, Inspection())
    assert len(page.encode()) < gallery.TEXT_BYTES + 200_000


def test_a_text_that_never_ends_is_cut_with_its_length(make_run, annotated):
    captions = {f"video{index}": "x" * 200_000 for index in range(6)}
    built = gallery.build_gallery(read_runs([make_run("one", captions=captions, config=CONFIG)], "test"), 6)
    assert len(built.cards) == 6
    text = built.cards[0].captions[0].text
    assert text.endswith("x … (200,000 characters)")
    assert len(text) < gallery.LONGEST_TEXT + 40


def test_kinds_without_end_are_the_largest(make_run, monkeypatch, tmp_path):
    clips = [CaptionedClip(f"video{i}", tmp_path / "x.mp4", ("a",), category=max(i - 100, 0)) for i in range(400)]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)
    captions = {clip.clip_id: "a" for clip in clips}
    per_clip = {clip_id: {"cider": 0.5} for clip_id in captions}
    runs = read_runs([make_run("one", captions=captions, per_clip=per_clip, config=CONFIG)], "test")
    built = gallery.build_gallery(runs, 0)
    assert len(built.kinds) == gallery.MOST_KINDS
    assert max(built.kinds, key=lambda kind: kind.clips).clips == 101
    assert any("100 with the most clips" in remark for remark in built.remarks)
