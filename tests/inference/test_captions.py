from evlvideo.inference.captions import Caption, count_special_tokens, name_special_tokens, texts_of

CAPTIONS = {
    "video0": Caption("a cat"),
    "video1": Caption("system", ("<|im_start|>", "<|im_end|>", "<|im_start|>")),
    "video2": Caption("", ("<|im_start|>",)),
}


def test_texts_stay_with_their_clips() -> None:
    assert texts_of(CAPTIONS) == {"video0": "a cat", "video1": "system", "video2": ""}


def test_special_tokens_are_counted_over_all_captions() -> None:
    assert count_special_tokens(CAPTIONS.values()) == {"<|im_start|>": 3, "<|im_end|>": 1}


def test_special_tokens_are_said_with_the_number_of_captions() -> None:
    said = name_special_tokens(list(CAPTIONS.values()))
    assert said is not None
    assert said.startswith("special-tokens: 2 of 3 captions hold special tokens: <|im_start|> ×3, <|im_end|> ×1. ")


def test_nothing_is_said_of_plain_captions() -> None:
    assert name_special_tokens([Caption("a cat"), Caption("")]) is None
    assert name_special_tokens([]) is None
