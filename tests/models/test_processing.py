"""Captions to tokens and targets and back; frames to pixel values."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import BOS, END, PAD, MakeModel, character_tokenizer, pixels
from transformers import AutoProcessor

from evlvideo.models.processing import IGNORED, EvlVideoProcessor

CAPTIONS = ["a dog", "a red ball rolls"]


def processor(**changes: object) -> EvlVideoProcessor:
    return EvlVideoProcessor(character_tokenizer(), image_size=32, **changes)  # type: ignore[arg-type]


def tokens_of(text: str) -> list[int]:
    return character_tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_text_is_bos_caption_and_newline() -> None:
    inputs = processor().text(["a dog"])
    assert inputs["input_ids"].tolist() == [[BOS, *tokens_of("a dog"), END]]


def test_bos_and_ending_are_targets() -> None:
    inputs = processor().text(["a dog"])
    assert torch.equal(inputs["labels"], inputs["input_ids"])


def test_padding_is_on_the_right_and_not_a_target() -> None:
    inputs = processor().text(CAPTIONS)
    padding = len(CAPTIONS[1]) - len(CAPTIONS[0])
    length = len(CAPTIONS[0]) + 2
    assert inputs["input_ids"][0, length:].tolist() == [PAD] * padding
    assert inputs["attention_mask"].tolist() == [[1] * length + [0] * padding, [1] * (length + padding)]
    assert inputs["labels"][0].tolist() == [BOS, *tokens_of(CAPTIONS[0]), END] + [IGNORED] * padding
    assert inputs["labels"][1].tolist() == [BOS, *tokens_of(CAPTIONS[1]), END]


def test_all_text_tensors_are_whole_numbers_of_one_shape() -> None:
    inputs = processor().text(CAPTIONS)
    assert inputs.keys() == {"input_ids", "attention_mask", "labels"}
    assert {(value.dtype, tuple(value.shape)) for value in inputs.values()} == {(torch.int64, (2, 18))}


def test_long_text_is_cut_at_the_limit() -> None:
    inputs = processor(max_text_tokens=6).text(["a red ball rolls", "ab"])
    assert inputs["input_ids"].tolist() == [[BOS, *tokens_of("a red")], [BOS, *tokens_of("ab"), END, PAD, PAD]]


def test_text_of_exactly_the_limit_keeps_its_ending() -> None:
    assert processor(max_text_tokens=7).text(["a dog"])["input_ids"][0, -1] == END


def test_published_limit_is_the_default() -> None:
    assert processor().text(["a" * 100])["input_ids"].shape == (1, 32)


def test_prompt_is_not_a_target() -> None:
    inputs = processor(prompt="see:").text(["a dog"])
    assert inputs["input_ids"].tolist() == [[BOS, *tokens_of("see: a dog"), END]]
    assert inputs["labels"].tolist() == [[IGNORED] * 5 + tokens_of(" a dog") + [END]]


def test_prompt_ids_are_the_prompt_without_bos() -> None:
    ids = processor(prompt="see:").prompt_ids()
    assert ids is not None
    assert ids.tolist() == tokens_of("see:")


def test_no_prompt_has_no_ids() -> None:
    assert processor().prompt_ids() is None


@pytest.mark.parametrize("caption", ["a dog\nruns", "a dog\r\nruns", " a  dog\truns \n", "a dog\u2028runs"])
def test_caption_is_put_on_one_line(caption: str) -> None:
    assert torch.equal(processor().text([caption])["input_ids"], processor().text(["a dog runs"])["input_ids"])


def test_special_tokens() -> None:
    built = processor()
    assert (built.bos_token_id, built.end_token_id, built.pad_token_id) == (BOS, END, PAD)


def test_tokenizer_without_padding_is_padded_with_the_ending() -> None:
    built = processor()
    built.tokenizer.pad_token = None
    assert built.pad_token_id == END
    assert built.text(CAPTIONS)["labels"][0, -1] == IGNORED


def test_captions_are_cut_at_the_ending() -> None:
    tokens = torch.tensor([[*tokens_of("a dog"), END, *tokens_of("xy")], [*tokens_of("a b"), END, PAD, PAD, PAD, PAD]])
    assert processor().captions(tokens) == ["a dog", "a b"]


def test_captions_without_an_ending_are_whole() -> None:
    assert processor().captions(torch.tensor([tokens_of("a dog")])) == ["a dog"]


def test_captions_are_stripped_of_space_and_special_tokens() -> None:
    tokens = torch.tensor([[BOS, *tokens_of("  a  dog "), END, PAD]])
    assert processor().captions(tokens) == ["a dog"]


def test_empty_caption_stays_empty() -> None:
    assert processor().captions(torch.tensor([[END, PAD, PAD]])) == [""]


def test_ending_that_is_a_special_token_ends_captions() -> None:
    built = processor(end_of_text="</s>")
    inputs = built.text(["a dog"])
    assert inputs["input_ids"].tolist() == [[BOS, *tokens_of("a dog"), BOS]]
    assert built.captions(inputs["input_ids"][:, 1:]) == ["a dog"]


def test_special_tokens_inside_captions_are_named() -> None:
    built = processor()
    tokens = torch.tensor(
        [
            [BOS, *tokens_of("a"), PAD, *tokens_of("b"), BOS, END, PAD],
            [*tokens_of("abc"), END, BOS, PAD, PAD],
            [END, PAD, PAD, PAD, PAD, PAD, PAD],
        ]
    )
    assert built.special_tokens(tokens) == [["</s>", "<pad>", "</s>"], [], []]
    assert built.captions(tokens) == ["ab", "abc", ""]


def test_special_tokens_that_the_tokenizer_calls_by_no_role_are_named() -> None:
    """As a chat template's."""
    built = processor()
    built.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    (start,) = tokens = built.tokenizer("<|im_start|>", add_special_tokens=False)["input_ids"]
    assert built.special_tokens(torch.tensor([[start, *tokens_of("system"), END]])) == [["<|im_start|>"]]
    assert built.captions(torch.tensor([[*tokens, *tokens_of("system"), END]])) == ["system"]


def test_special_tokens_after_an_ending_inside_a_longer_token_do_not_count() -> None:
    built = processor()
    built.tokenizer.add_tokens(["\n\n"])
    both = built.tokenizer.convert_tokens_to_ids("\n\n")
    tokens = torch.tensor([[BOS, *tokens_of("ab"), both, PAD, BOS]])
    assert built.captions(tokens) == ["ab"]
    assert built.special_tokens(tokens) == [["</s>"]]


def test_captions_give_back_what_text_made() -> None:
    built = processor()
    assert built.captions(built.text(CAPTIONS)["input_ids"][:, 1:]) == CAPTIONS


def test_frames_are_resized_and_stay_whole_numbers() -> None:
    values = processor().frames(np.full((3, 48, 64, 3), 128, np.uint8))
    assert torch.equal(values, torch.full((3, 3, 32, 32), 128, dtype=torch.uint8))


def test_call_makes_inputs_that_the_model_takes(make_model: MakeModel) -> None:
    videos = [np.full((3, 40, 40, 3), value, np.uint8) for value in (0, 200)]
    inputs = processor()(videos=videos, text=CAPTIONS)
    assert inputs.keys() == {"pixel_values", "input_ids", "attention_mask", "labels"}
    assert inputs["pixel_values"].shape == (2, 3, 3, 32, 32)
    assert make_model()(**inputs).loss.isfinite()


def test_generated_tokens_become_one_caption_a_clip(make_model: MakeModel) -> None:
    captions = processor().captions(make_model().generate(pixels(2, 2), max_new_tokens=6))
    assert len(captions) == 2


def test_processor_goes_through_a_directory(tmp_path: Path) -> None:
    built = processor(prompt="see:", max_text_tokens=20)
    built.save_pretrained(tmp_path)
    loaded = EvlVideoProcessor.from_pretrained(tmp_path)
    for name in ("image_size", "prompt", "end_of_text", "max_text_tokens"):
        assert getattr(loaded, name) == getattr(built, name), name
    assert loaded.text(CAPTIONS)["input_ids"].tolist() == built.text(CAPTIONS)["input_ids"].tolist()


def test_auto_processor_opens_a_checkpoint(make_model: MakeModel, tmp_path: Path) -> None:
    built = processor(max_text_tokens=9)
    make_model().save_pretrained(tmp_path)
    built.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, EvlVideoProcessor)
    assert loaded.max_text_tokens == 9
    assert loaded.end_token_id == END
