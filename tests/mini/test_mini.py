"""The mini dataset: what scenes show, what captions claim, and how the set is written."""

import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from evlvideo.errors import UserError
from evlvideo.files import read_json
from evlvideo.mini import build, captions, render, world

TINY = {"train": 4, "validate": 2, "test": 3}


def scenes(count: int, seed: int = 0) -> list[world.Scene]:
    rng = random.Random(seed)
    return [world.sample_scene(rng) for _ in range(count)]


def scenes_of(kind: str, count: int = 4) -> list[world.Scene]:
    found = [scene for scene in scenes(1500) if scene.event.kind == kind]
    return found[:count]


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build_mini(tmp_path_factory.mktemp("mini") / "set", seed=3, progress=False, splits=TINY)


def sampled_items(scene: world.Scene) -> list[tuple[world.Item, ...]]:
    return [world.items_at(scene, moment) for moment in world.sampled_moments(scene.frames)]


def test_evidence_is_drawn_in_the_stated_shares() -> None:
    counts = Counter(scene.event.evidence for scene in scenes(3000))
    for evidence, share in world.EVIDENCE_SHARES.items():
        assert counts[evidence] / 3000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("kind", [kind for kind, evidence in world.EVENTS.items() if evidence == "one_frame"])
def test_nothing_changes_in_one_frame_events(kind: str) -> None:
    for scene in scenes_of(kind):
        assert len(set(sampled_items(scene))) == 1


@pytest.mark.parametrize("kind", [kind for kind, evidence in world.EVENTS.items() if evidence != "one_frame"])
def test_sampled_frames_of_an_event_differ(kind: str) -> None:
    for scene in scenes_of(kind):
        clip = render.render_clip(scene).astype(np.int16)
        sampled = [clip[round(moment * scene.frames)] for moment in world.sampled_moments(scene.frames)]
        change = max(np.abs(first - other)[8:56, 8:56].mean(axis=2).max() for first in sampled for other in sampled)
        assert change > 60


@pytest.mark.parametrize("kind", ["blink", "alternate"])
def test_switching_events_are_uneven_in_the_sampled_frames(kind: str) -> None:
    for scene in scenes_of(kind, 20):
        assert sorted(Counter(sampled_items(scene)).values()) == [1, 3]


@pytest.mark.parametrize("kind", ["appear", "disappear"])
def test_single_switches_are_even_and_fall_between_the_halves(kind: str) -> None:
    for scene in scenes_of(kind, 20):
        states = [world.items_at(scene, index / scene.frames) for index in range(scene.frames)]
        half = scene.frames // 2
        assert len(set(states[:half])) == len(set(states[half:])) == 1
        assert states[0] != states[-1]


def test_moves_cross_half_of_the_image_in_the_named_direction() -> None:
    for kind, sign in (("move_left", -1), ("move_right", 1)):
        for scene in scenes_of(kind):
            first, last = (world.items_at(scene, moment)[0] for moment in (0.0, 1.0))
            assert (last.x - first.x) * sign >= 0.5
            assert last.y == first.y


def test_a_move_is_its_opposite_played_backwards() -> None:
    # What direction it was is then told by the order alone.
    scene = scenes_of("move_left", 1)[0]
    moments = np.linspace(0, 1, 9)
    places = [world.items_at(scene, moment)[0].x for moment in moments]
    assert np.allclose(np.add(places, places[::-1]), 1.0)


def test_stills_and_frames_are_drawn_alike() -> None:
    scene = next(
        scene for scene in scenes(100) if (scene.width, scene.height) == (64, 64) and not scene.texture_seed % 2
    )
    clip, still = render.render_clip(scene), render.render_still(scene, 64, 0.0)
    assert still.shape == (64, 64, 3)
    assert still.dtype == clip.dtype == np.uint8
    assert clip.shape == (scene.frames, 64, 64, 3)
    assert abs(float(clip[0].mean()) - float(still.mean())) < 8


def test_a_scene_renders_the_same_twice() -> None:
    scene = scenes(1)[0]
    assert np.array_equal(render.render_clip(scene), render.render_clip(scene))


def test_captions_are_twenty_different_sentences() -> None:
    for scene in scenes(40):
        written = captions.write_captions(scene, random.Random(1))
        assert len({caption.text for caption in written}) == 20
        assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", caption.text) for caption in written)


def test_vocabulary_is_small() -> None:
    rng = random.Random(0)
    written = [caption for scene in scenes(500) for caption in captions.write_captions(scene, rng)]
    words = {word for caption in written for word in caption.text.split()}
    assert 80 < len(words) <= 250
    assert max(len(caption.text.split()) for caption in written) <= 24


def test_captions_never_need_more_than_their_clip_shows() -> None:
    order = ["one_frame", "several_frames", "frame_order"]
    for scene in scenes(100):
        for caption in captions.write_captions(scene, random.Random(2)):
            assert order.index(caption.evidence) <= order.index(scene.event.evidence)


def test_nearly_all_captions_of_an_event_tell_it() -> None:
    for evidence in ("several_frames", "frame_order"):
        chosen = [scene for scene in scenes(200) if scene.event.evidence == evidence]
        written = [caption for scene in chosen for caption in captions.write_captions(scene, random.Random(3))]
        share = sum(caption.evidence == evidence for caption in written) / len(written)
        assert 0.9 < share < 0.97


def test_direction_words_agree_with_the_event() -> None:
    wrong = {"move_left": "to the right", "move_right": "to the left", "appear": "disappear"}
    for kind, words in wrong.items():
        for scene in scenes_of(kind):
            assert not any(words in caption.text for caption in captions.write_captions(scene, random.Random(4)))


def test_still_captions_tell_what_is_visible_at_the_moment() -> None:
    scene = next(scene for scene in scenes_of("appear", 20) if len(scene.items) == 1)
    nothing = captions.write_still_captions(scene, random.Random(0), 10, moment=0.1)
    something = captions.write_still_captions(scene, random.Random(0), 40, moment=0.9)
    assert not any(colour in caption.text.split() for caption in nothing for colour in world.COLOURS)
    assert any(scene.items[0].colour in caption.text for caption in something)


def test_splits_share_no_combination_of_attributes() -> None:
    pools = {split: {build.sample_clip(split, index)[0].combination for index in range(150)} for split in build.SPLITS}
    assert not pools["train"] & pools["test"]
    assert not pools["train"] & pools["validate"]
    assert not pools["validate"] & pools["test"]


def test_annotations_have_the_layout_of_msrvtt(tiny_root: Path) -> None:
    train_val = read_json(tiny_root / "train_val_videodatainfo.json")
    test = read_json(tiny_root / "test_videodatainfo.json")
    assert [video["video_id"] for video in train_val["videos"]] == [f"video{number}" for number in range(6)]
    assert [video["split"] for video in train_val["videos"]] == ["train"] * 4 + ["validate"] * 2
    assert [video["video_id"] for video in test["videos"]] == ["video6", "video7", "video8"]
    assert set(Counter(sentence["video_id"] for sentence in test["sentences"]).values()) == {20}
    assert set(test["videos"][0]) == {
        "id",
        "video_id",
        "category",
        "url",
        "start time",
        "end time",
        "split",
        "evidence",
    }
    assert set(test["sentences"][0]) == {"sen_id", "video_id", "caption", "evidence"}
    numbers = [sentence["sen_id"] for part in (train_val, test) for sentence in part["sentences"]]
    assert numbers == list(range(9 * 20))


def test_clips_hold_the_rendered_frames_as_h264(tiny_root: Path) -> None:
    scene, _ = build.sample_clip("train", 1, seed=3)
    with av.open(str(tiny_root / "videos" / "video1.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    rendered = render.render_clip(scene)
    assert decoded.shape == rendered.shape
    assert np.abs(decoded.astype(int) - rendered).mean() < 8


def test_a_build_is_the_same_twice(tiny_root: Path, tmp_path: Path) -> None:
    again = build.build_mini(tmp_path / "again", seed=3, progress=False, splits=TINY)
    files = sorted(path.relative_to(tiny_root) for path in tiny_root.rglob("*") if path.is_file())
    assert len(files) == 9 + 3
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((tiny_root / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_a_finished_build_is_reused(tiny_root: Path) -> None:
    before = (tiny_root / "videos" / "video0.mp4").stat().st_mtime_ns
    assert build.build_mini(tiny_root, seed=3, progress=False, splits=TINY) == tiny_root
    assert (tiny_root / "videos" / "video0.mp4").stat().st_mtime_ns == before


def test_two_builds_at_once_leave_one_set_and_no_rests(tmp_path: Path) -> None:
    root, failures = tmp_path / "set", []

    def work() -> None:
        try:
            build.build_mini(root, seed=3, progress=False, splits={"train": 1, "validate": 1, "test": 1})
        except (OSError, UserError, RuntimeError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes as Linux lists them")
def test_renderers_end_with_a_killed_parent(tmp_path: Path) -> None:
    root = tmp_path / "set"
    code = f"from pathlib import Path; from evlvideo.mini.build import build_mini; build_mini(Path({str(root)!r}))"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(tmp_path.glob("*/videos/*.mp4"))) > 2)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not running(str(tmp_path)))


def running(argument: str) -> list[str]:
    """Command lines of the processes that got a path."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return [line for line in found if argument in line and "evlvideo.mini.build" in line]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_renderer_that_fails_is_told_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'Traceback …\nOSError: No space left on device' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(UserError, match=r"to .*set: rendering failed: OSError: No space left on device; name another"):
        build.build_mini(tmp_path / "set", progress=False, splits=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_a_directory_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"other files.*name another directory"):
        build.build_mini(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path))
    assert build.mini_root(7) == tmp_path / f"mini-{build.FORMAT_VERSION}-7"
    monkeypatch.delenv("EVLVIDEO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.mini_root().parent == tmp_path / "evlvideo"
