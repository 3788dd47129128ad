"""What is shown of a caption is what other commands find, by ways of their own."""

import base64
import io
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_run import FRAMES, IMAGE_SIZE, Toy

from evlvideo.app.choices import Choices
from evlvideo.app.explain import Explanation, OpenCheckpoint, explain_all, open_all
from evlvideo.assembly.datasets import video_dataset
from evlvideo.comparison.page.inspect_models import inspect_models
from evlvideo.comparison.page.token_groups import paint_groups
from evlvideo.comparison.rows.system import System
from evlvideo.data.video.decode import decode_frames
from evlvideo.data.video.sampling import uniform
from evlvideo.errors import UserError
from evlvideo.inference.answer_files import answer_files
from evlvideo.inference.answering import asked
from evlvideo.inference.caption_files import caption_files
from evlvideo.inference.captioning import stream_captions

TWO_BEAMS = Choices(captions=2, num_beams=2)


@pytest.fixture(scope="module")
def run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("app") / "run"
    return toy.finished_run(directory, open_gates=True, fusion="mean_tokens", contextualizer="merged")


@pytest.fixture(scope="module")
def checkpoint(run: Path) -> OpenCheckpoint:
    return OpenCheckpoint(str(run))


@pytest.fixture
def video(toy: Toy) -> Path:
    return toy.clips("test")[0].video


def texts(found: Explanation) -> list[str]:
    return [caption.text for caption in found.captions]


def test_captions_are_those_of_the_caption_command(run: Path, checkpoint: OpenCheckpoint, video: Path) -> None:
    (file,) = caption_files([video], str(run), captions_per_video=2)
    assert texts(checkpoint.explain(video, TWO_BEAMS)) == file.captions


def test_a_caption_is_as_likely_as_its_score_says(toy: Toy, checkpoint: OpenCheckpoint, video: Path) -> None:
    config = checkpoint.config
    dataset = video_dataset(config.data, checkpoint.processor, toy.clips("test")[:1])
    (outcome,) = stream_captions(
        checkpoint.model, checkpoint.processor, dataset, config.generation, captions_per_clip=2, scored=True
    )
    found = checkpoint.explain(video, TWO_BEAMS).captions
    scores = [caption.log_probability / len(caption.tokens) for caption in found]
    assert scores == pytest.approx([caption.score for caption in outcome.result or []])
    for caption in found:
        assert caption.probability == pytest.approx(np.prod([token.probability for token in caption.tokens]))
        assert caption.mean_probability == pytest.approx(caption.probability ** (1 / len(caption.tokens)))
        assert [token.ends for token in caption.tokens[:-1]] == [False] * (len(caption.tokens) - 1)


@pytest.mark.parametrize("question", ["", "what moves?"])
def test_tokens_are_as_likely_as_they_were_when_they_were_chosen(
    checkpoint: OpenCheckpoint, video: Path, question: str
) -> None:
    choices = Choices(num_beams=1, max_new_tokens=4, question=question)
    model, processor = checkpoint.model, checkpoint.processor
    pixels = torch.from_numpy(checkpoint.explain(video, choices).frames).permute(0, 3, 1, 2)[None]
    given = {"prompt_ids": processor.prompt_ids()}
    if question:
        given = processor.questions([asked(question, checkpoint.config.answering)])
    steps = model.generate(pixels, **given, max_new_tokens=4, return_dict_in_generate=True, output_logits=True)
    expected = [
        float(logits[0].softmax(-1)[token]) for logits, token in zip(steps.logits, steps.sequences[0], strict=True)
    ]
    (caption,) = checkpoint.explain(video, choices).captions
    assert [token.probability for token in caption.tokens] == pytest.approx(expected[: len(caption.tokens)], rel=1e-4)


def test_frames_have_their_times(checkpoint: OpenCheckpoint, video: Path) -> None:
    found = checkpoint.explain(video, Choices())
    expected = decode_frames(video, lambda count, seconds: uniform(count, seconds, FRAMES), IMAGE_SIZE)
    assert np.array_equal(found.seconds, expected.timestamps_seconds)
    assert np.array_equal(found.frames, expected.frames)
    assert found.file == expected.metadata


def test_what_is_inside_is_what_a_report_shows(toy: Toy, run: Path, checkpoint: OpenCheckpoint, video: Path) -> None:
    seen = inspect_models([System("run", run, None, {}, {}, {}, None)], toy.clips("test")[:1])
    found, expected = checkpoint.explain(video, Choices()), seen.clips[0].views[0]
    assert found.merging is not None and found.merging == expected.merging
    assert found.attention is not None and found.attention == expected.attention
    assert found.pruning is None


def test_the_merged_token_of_each_patch_is_what_is_painted(checkpoint: OpenCheckpoint, video: Path) -> None:
    found = checkpoint.explain(video, Choices())
    assert found.merging is not None and found.merging.groups is not None
    # The toy's frames have 4 × 4 patches; a class token is among the nine that are left.
    assert found.merging.groups.shape == (FRAMES, 4, 4)
    for frame, groups, painted in zip(found.frames, found.merging.groups, found.merging.painted, strict=True):
        assert 1 < len(np.unique(groups)) <= found.merging.after - 1
        data = base64.b64decode(painted.address.removeprefix("data:image/png;base64,"))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), paint_groups(frame, groups))


def test_captions_continue_a_prompt_and_later_ones_do_not(run: Path, checkpoint: OpenCheckpoint, video: Path) -> None:
    before = texts(checkpoint.explain(video, TWO_BEAMS))
    (file,) = caption_files([video], str(run), captions_per_video=2, prompt="the video shows")
    choices = Choices(captions=2, num_beams=2, prompt="the video shows")
    assert texts(checkpoint.explain(video, choices)) == file.captions
    assert texts(checkpoint.explain(video, TWO_BEAMS)) == before


def test_a_question_is_answered_as_by_the_answer_command(run: Path, checkpoint: OpenCheckpoint, video: Path) -> None:
    changes = ["answering.num_beams=2"]
    (file,) = answer_files([video], ["What moves?"], str(run), overrides=changes)
    found = checkpoint.explain(video, Choices(num_beams=2, question="What moves?", prompt="has no effect"))
    assert texts(found) == [answer.text for answer in file.answers]


def test_a_seed_draws_the_same_captions_again(checkpoint: OpenCheckpoint, video: Path) -> None:
    first, again, other = (
        texts(checkpoint.explain(video, Choices(captions=5, do_sample=True, seed=seed))) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_an_image_has_no_attention_over_its_copies(checkpoint: OpenCheckpoint, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    found = checkpoint.explain(tmp_path / "red.png", Choices())
    assert found.file.frames == 1 and found.attention is None and found.merging is not None
    assert found.captions[0].tokens


def test_half_precision_gives_probabilities_too(run: Path, video: Path) -> None:
    checkpoint = OpenCheckpoint(str(run), ["training.precision=bf16"])
    (caption,) = checkpoint.explain(video, Choices()).captions
    assert 0 < caption.probability <= 1 and all(0 < token.probability <= 1 for token in caption.tokens)


def test_a_file_that_is_no_video_is_named_without_its_folder(checkpoint: OpenCheckpoint, tmp_path: Path) -> None:
    broken = tmp_path / "notes.mp4"
    broken.write_text("this is no video")
    (outcome,) = explain_all([checkpoint], broken, Choices())
    assert outcome.found is None
    assert outcome.problem.startswith("notes.mp4 cannot be decoded: ") and str(tmp_path) not in outcome.problem


def test_a_checkpoint_that_fails_keeps_none_from_captioning(checkpoint: OpenCheckpoint, video: Path) -> None:
    class Failing:
        name = "failing"

        def explain(self, file: Path, choices: Choices) -> Explanation:
            raise UserError("It is too small.")

    first, second = explain_all([Failing(), checkpoint], video, Choices())  # type: ignore[list-item]
    assert (first.name, first.found, first.problem) == ("failing", None, "It is too small.")
    assert second.found is not None and not second.problem


def test_people_at_the_same_time_get_what_each_would_get_alone(checkpoint: OpenCheckpoint, toy: Toy) -> None:
    asks = [
        (clip.video, Choices(captions=3, do_sample=True, seed=seed, prompt=prompt))
        for clip in toy.clips("test")[:2]
        for seed, prompt in ((1, ""), (2, "the video shows"))
    ]
    alone = [texts(checkpoint.explain(*ask)) for ask in asks]
    together: dict[int, list[str]] = {}

    def work(place: int) -> None:
        together[place] = texts(checkpoint.explain(*asks[place]))

    threads = [threading.Thread(target=work, args=[place]) for place in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(len(asks))] == alone


def test_a_checkpoint_says_why_it_takes_no_questions(
    checkpoint: OpenCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkpoint.asks_not is None
    monkeypatch.setattr(checkpoint.processor, "layout", "{video} describe: {caption}")
    assert "has no place for a question" in str(checkpoint.asks_not)


def test_checkpoints_are_called_by_their_folders_unless_these_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evlvideo.app.explain.OpenCheckpoint", lambda source, overrides, name: (source, name))
    assert open_all(["a/one", "b/two", "a/one", "mini"]) == [("a/one", "one"), ("b/two", "two"), ("mini", "mini")]
    assert open_all(["a/one", "b/one"]) == [("a/one", "a/one"), ("b/one", "b/one")]
