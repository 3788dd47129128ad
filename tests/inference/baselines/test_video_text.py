import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_video_models import FAMILIES, QUERIES, save_family

from evlvideo.config.generation import GenerationConfig
from evlvideo.errors import UserError
from evlvideo.inference.baselines.video import ShownClip
from evlvideo.inference.baselines.video_text import VideoTextModel, VideoTextProcessor

Family = Callable[[str], Path]

PROMPT = "Describe the video."
GENERATION = GenerationConfig(num_beams=3, max_new_tokens=8, min_new_tokens=4)
GREEDY = GenerationConfig(num_beams=1, max_new_tokens=8, min_new_tokens=0)


def shown(seed: int, height: int = 64, width: int = 80, frames: int = 4, still: bool = False) -> ShownClip:
    generator = np.random.default_rng(seed)
    picture = generator.integers(0, 255, (1 if still else frames, height, width, 3), dtype=np.uint8)
    places = [12 * place for place in range(frames)]
    return ShownClip(f"clip{seed}", np.repeat(picture, frames if still else 1, axis=0), places, 25.0, 12 * frames)


CLIPS = [shown(0), shown(1, 96, 64), shown(2, still=True), shown(3, 72, 96)]


def opened(folder: Path, prompt: str = PROMPT) -> VideoTextModel:
    return VideoTextModel(VideoTextProcessor(str(folder), prompt), dtype=torch.float32, device=torch.device("cpu"))


@pytest.mark.parametrize("name", FAMILIES)
def test_clips_of_several_shapes_are_captioned_in_a_batch_as_one_by_one(family: Family, name: str) -> None:
    model = opened(family(name))
    together = model.caption(CLIPS, GENERATION)
    assert together == [model.caption([clip], GENERATION)[0] for clip in CLIPS]
    assert len(set(together)) > 1  # the clips are seen


@pytest.mark.parametrize("name", FAMILIES)
def test_captions_are_the_new_tokens_of_the_model_itself(family: Family, name: str) -> None:
    model = opened(family(name))
    inputs = model.processor.inputs(CLIPS)
    tokens = model.model.generate(**inputs, max_new_tokens=8)
    new = tokens if name == "instructblip_video_t5" else tokens[:, inputs["input_ids"].shape[1] :]
    texts = model.processor.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    assert model.caption(CLIPS, GREEDY) == [" ".join(text.split()) for text in texts]


@pytest.mark.parametrize("name", ["video_llava", "instructblip_video"])
def test_the_settings_of_the_model_do_not_change_how_captions_are_decoded(
    family: Family, tmp_path: Path, name: str
) -> None:
    settings = {"do_sample": True, "temperature": 3.0, "repetition_penalty": 5.0, "num_beams": 4, "max_new_tokens": 2}
    folder = save_family(name, tmp_path / name, **settings)
    assert json.loads((folder / "generation_config.json").read_text())["do_sample"] is True
    assert opened(folder).caption(CLIPS, GREEDY) == opened(family(name)).caption(CLIPS, GREEDY)


def test_videos_that_lose_tokens_are_seen_alike_with_beams_and_without(family: Family) -> None:
    """VideoLLaMA3 leaves out what does not change; with one beam transformers does it itself."""
    model = opened(family("video_llama_3"))
    clips = [shown(0), shown(2, still=True)]
    mask = model.processor.inputs(clips)["video_compression_mask"]
    assert 0 < (~mask).sum() < len(mask)
    inputs = model.processor.inputs(clips)
    names = {"pixel_values_videos", "video_grid_thw", "video_merge_sizes", "video_compression_mask"}
    compressed = model._compressed(inputs)
    assert not names & compressed.keys()
    with torch.no_grad():
        ours, theirs = model.model(**compressed).logits, model.model(**inputs).logits
    torch.testing.assert_close(ours, theirs)


class TestPrompt:
    def test_a_chat_template_goes_around_it(self, family: Family) -> None:
        text = VideoTextProcessor(str(family("llava_next_video")), PROMPT).text
        assert text == f"USER: <video>\n{PROMPT} ASSISTANT:"

    def test_with_the_placeholder_it_is_used_as_it_is(self, family: Family) -> None:
        prompt = "USER: <video> What? ASSISTANT:"
        for name in ("llava_next_video", "video_llava"):
            assert VideoTextProcessor(str(family(name)), prompt).text == prompt

    def test_without_a_template_the_placeholder_is_put_before_it(self, family: Family) -> None:
        assert VideoTextProcessor(str(family("video_llava")), PROMPT).text == f"<video>\n{PROMPT}"

    def test_instructblip_puts_the_placeholder_in_by_itself(self, family: Family) -> None:
        processor = VideoTextProcessor(str(family("instructblip_video")), PROMPT)
        assert processor.text == PROMPT
        ids = processor.inputs([CLIPS[0]])["input_ids"]
        assert (ids == processor.config.video_token_index).sum() == 4 * QUERIES

    def test_the_times_of_frames_are_told(self, family: Family) -> None:
        processor = VideoTextProcessor(str(family("video_llama_3")), PROMPT)
        metadata = processor.processor(
            videos=[CLIPS[0].frames],
            text=[processor.text],
            video_metadata=[{"total_num_frames": 48, "fps": 25.0, "frames_indices": [0, 12, 24, 36]}],
            do_sample_frames=False,
            return_tensors="pt",
        )
        assert torch.equal(processor.inputs([CLIPS[0]])["input_ids"], metadata["input_ids"])

    def test_a_template_that_opens_the_text_opens_it_once(self, family: Family, tmp_path: Path) -> None:
        folder = shutil.copytree(family("llava_next_video"), tmp_path / "model")
        template = folder / "chat_template.jinja"
        template.write_text("{{ bos_token }}" + template.read_text())
        ids = VideoTextProcessor(str(folder), PROMPT).inputs([CLIPS[0]])["input_ids"][0].tolist()
        assert ids.count(1) == 1 and ids[0] == 1

    @pytest.mark.parametrize(
        ("template", "said"),
        [
            ("{{ messages[0]['content'][1]['text'] }}", "leaves the video out; give a prompt with <video>"),
            ("{{ raise_exception('no videos here') }}", "takes no question about a video: no videos here"),
        ],
    )
    def test_a_template_without_videos_is_refused(
        self, family: Family, tmp_path: Path, template: str, said: str
    ) -> None:
        folder = shutil.copytree(family("llava_next_video"), tmp_path / "model")
        (folder / "chat_template.jinja").write_text(template)
        with pytest.raises(UserError, match=said):
            VideoTextProcessor(str(folder), PROMPT)

    def test_what_a_model_repeats_of_it_is_no_caption(self, family: Family) -> None:
        processor = VideoTextProcessor(str(family("video_llava")), PROMPT)
        tokenizer = processor.processor.tokenizer
        tokens = tokenizer([f"{PROMPT} a man runs", "a dog sits"], padding=True, return_tensors="pt")["input_ids"]
        assert processor.captions(tokens, torch.zeros(2, 99, dtype=torch.long)) == ["a man runs", "a dog sits"]


class TestFrames:
    def test_another_number_than_is_written_into_the_processor_is_refused(self, family: Family) -> None:
        processor = VideoTextProcessor(str(family("instructblip_video")), PROMPT)
        processor.check_frames(4)
        with pytest.raises(
            UserError, match=r"wants 4 frames of each clip, and data.num_frames is 8. Set data.num_frames=4"
        ):
            processor.check_frames(8)
        with pytest.raises(UserError, match="it takes no other"):
            processor.check_frames(8, any_frames=True)

    def test_another_number_than_is_stated_needs_a_word(self, family: Family, tmp_path: Path) -> None:
        folder = shutil.copytree(family("video_llava"), tmp_path / "model")
        path = folder / "processor_config.json"
        content: dict[str, Any] = json.loads(path.read_text())
        content["video_processor"]["num_frames"] = 8
        path.write_text(json.dumps(content))
        processor = VideoTextProcessor(str(folder), PROMPT)
        processor.check_frames(8)
        with pytest.raises(UserError, match=r"wants 8 frames of each clip, and data.num_frames is 4.*--any-frames"):
            processor.check_frames(4)
        processor.check_frames(4, any_frames=True)

    @pytest.mark.parametrize("name", ["video_llava", "llava_next_video", "video_llama_3"])
    @pytest.mark.parametrize("frames", [1, 3, 6])
    def test_where_none_is_stated_any_number_is_shown(self, family: Family, name: str, frames: int) -> None:
        model = opened(family(name))
        model.processor.check_frames(frames)
        assert len(model.caption([shown(0, frames=frames)], GREEDY)) == 1

    def test_what_the_model_refuses_is_said(self, family: Family) -> None:
        with pytest.raises(UserError, match="refuses 3 frames of 80×64"):
            opened(family("instructblip_video")).caption([shown(0, frames=3)], GREEDY)


class TestOpening:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="There is no folder"):
            VideoTextProcessor(str(tmp_path / "none"), PROMPT)

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot be opened"):
            VideoTextProcessor(str(tmp_path), PROMPT)

    def test_a_model_that_takes_no_videos(self, toy_files: Any) -> None:
        with pytest.raises(UserError, match="takes no videos"):
            VideoTextProcessor(str(toy_files.checkpoint.parent / "language"), PROMPT)

    def test_code_that_comes_with_a_model_is_not_run_unasked(self, family: Family, tmp_path: Path) -> None:
        folder = shutil.copytree(family("video_llava"), tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass OwnConfig: ...\n")
        with pytest.raises(UserError, match="code of its own; read it, and give --trust-remote-code"):
            VideoTextProcessor(str(folder), PROMPT)
        assert not (tmp_path / "ran").exists()

    def test_weights_that_cannot_be_read(self, family: Family, tmp_path: Path) -> None:
        folder = shutil.copytree(family("video_llava"), tmp_path / "model")
        (folder / "model.safetensors").write_bytes(b"no weights")
        with pytest.raises(UserError, match="cannot be opened"):
            opened(folder)

    def test_one_weight_that_is_missing(self, family: Family, tmp_path: Path) -> None:
        folder = shutil.copytree(family("video_llava"), tmp_path / "model")
        weights = load_file(folder / "model.safetensors")
        name = next(name for name in weights if "language_model" in name and name.endswith("q_proj.weight"))
        save_file({key: weight for key, weight in weights.items() if key != name}, folder / "model.safetensors")
        with pytest.raises(UserError, match=r"lacks 1 of its weights, such as .*q_proj.weight"):
            opened(folder)

    def test_weights_that_are_missing(self, family: Family, tmp_path: Path) -> None:
        folder = shutil.copytree(family("video_llava"), tmp_path / "model")
        (folder / "model.safetensors").unlink()
        with pytest.raises(UserError, match=r"cannot be opened: .*model.safetensors"):
            opened(folder)
