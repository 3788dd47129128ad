from typing import Any

import torch
from torch import Tensor

from evlvideo.data.loading.collate import CaptionCollator


class Words:
    """Stands in for a processor: a token is the length of a word."""

    def text(self, captions: list[str]) -> dict[str, Tensor]:
        rows = [torch.tensor([len(word) for word in caption.split()]) for caption in captions]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": ids.where(ids > 0, -100)}


def item(number: int, **more: Any) -> dict[str, Any]:
    return {
        "clip_id": f"video{number}",
        "pixel_values": torch.full((4, 3, 8, 8), float(number)),
        "captions": [f"caption {k}" for k in range(number)],
        **more,
    }


def test_clips_are_stacked_in_order() -> None:
    batch = CaptionCollator(Words())([item(1), item(2)])
    assert batch["pixel_values"].shape == (2, 4, 3, 8, 8)
    assert batch["pixel_values"][:, 0, 0, 0, 0].tolist() == [1, 2]
    assert batch["clip_ids"] == ["video1", "video2"]
    assert batch["captions"] == [["caption 0"], ["caption 0", "caption 1"]]


def test_without_a_caption_there_is_no_text() -> None:
    assert set(CaptionCollator(Words())([item(1)])) == {"pixel_values", "clip_ids", "captions"}


def test_captions_to_train_on_are_tokenized_together() -> None:
    batch = CaptionCollator(Words())([item(1, caption="a dog"), item(2, caption="a cat sits down")])
    assert batch["input_ids"].tolist() == [[1, 3, 0, 0], [1, 3, 4, 4]]
    assert batch["attention_mask"].sum().item() == 6
    assert batch["labels"][0].tolist() == [1, 3, -100, -100]


def test_several_captions_of_a_clip_follow_one_another_from_the_items_own() -> None:
    captions = {"captions": ["a", "bb", "ccc"]}
    batch = CaptionCollator(Words(), captions_per_clip=2)(
        [
            item(1) | captions | {"caption": "bb", "caption_place": 1},
            item(2) | captions | {"caption": "ccc", "caption_place": 2},
        ]
    )
    assert batch["pixel_values"].shape[0] == 2
    assert batch["input_ids"].tolist() == [[2], [3], [3], [1]]


def test_an_item_of_a_caption_that_is_there_twice_goes_on_from_its_own_place() -> None:
    twice = {"captions": ["a", "bb", "a", "ccc"], "caption": "a", "caption_place": 2}
    batch = CaptionCollator(Words(), captions_per_clip=2)([item(1) | twice])
    assert batch["input_ids"].tolist() == [[1], [3]]
