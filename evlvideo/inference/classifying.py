"""Classifies statements about images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from evlvideo.data.loading.collate import stack_visual_inputs
from evlvideo.data.loading.loader import batch_loader
from evlvideo.data.loading.statements import StatementDataset
from evlvideo.models.vlp.hosts.classifier import AlbefClassifier
from evlvideo.models.vlp.hosts.words import tokenized
from evlvideo.models.vlp.images import Guidance


class StatementCollator:
    """Collates items of a :class:`evlvideo.data.loading.statements.StatementDataset`.

    A batch has `pixel_values` (uint8, `(B, I, 3, H, W)`), `input_ids` and `attention_mask` (`(B, S)`), `labels`
    (`(B,)`) and `clip_ids`.

    Args:
        tokenizer: of transformers.
        most_tokens: upper bound of `S`.
    """

    def __init__(self, tokenizer: Any, most_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._most_tokens = most_tokens

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one batch."""
        return {
            **stack_visual_inputs(items),
            **tokenized(self._tokenizer, [item["caption"] for item in items], self._most_tokens),
            "labels": torch.tensor([item["label"] for item in items]),
            "clip_ids": [item["clip_id"] for item in items],
        }


@torch.no_grad()
def classify(
    model: AlbefClassifier,
    dataset: StatementDataset,
    collator: StatementCollator,
    *,
    guidance: Guidance | None,
    batch_size: int,
    num_workers: int = 0,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """Classify all statements of a dataset, in eval mode.

    All processes must call this; each classifies its share, and all return the whole.

    Args:
        model: the classifier. Its mode is as before in the end.
        dataset: the statements.
        collator: makes batches.
        guidance: how images are pruned. If None, they are not.
        batch_size: statements at once.
        num_workers: processes that decode.
        dtype: what to compute in.

    Returns:
        probabilities, float32, `(statements, classes)`.

    Raises:
        UserError: an image cannot be decoded.
    """
    state, device, was_training = PartialState(), model.device, model.training
    numbers = range(state.process_index, len(dataset), state.num_processes)
    batches = [numbers[first : first + batch_size] for first in range(0, len(numbers), batch_size)]
    # Only the control `random` draws.
    generator = torch.Generator().manual_seed(0)
    rows: list[np.ndarray] = []
    model.eval()
    for batch in batch_loader(dataset, batches, collator, num_workers=num_workers) if batches else ():
        inputs = {name: batch[name].to(device) for name in ("pixel_values", "input_ids", "attention_mask")}
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model.classify(**inputs, guidance=guidance, generator=generator)
        rows.extend(logits.float().softmax(dim=-1).cpu().numpy())
    model.train(was_training)
    found = dict(gather_object(list(zip(numbers, rows, strict=True))))
    return np.stack([found[number] for number in range(len(dataset))])
