"""How likely captions are under the model that generated them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import SoftPrompt
from evlvideo.models.processing import EvlVideoProcessor


@torch.no_grad()
def log_probabilities(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    prompt: SoftPrompt,
    tokens: Tensor,
    opening_ids: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the log-probability of each generated token, by one teacher-forced pass over all of them.

    They are the model's own, whatever chose the tokens: without temperature, nucleus, penalties and beams.

    Args:
        model: generated the tokens; in eval mode.
        processor: its processor.
        prompt: soft prompts of `B` clips, as the language model has read them.
        tokens: new tokens of `k` captions of each clip in turn, `(k·B, L)`.
        opening_ids: tokens between the soft prompt and every caption, BOS token included. Defaults to the processor's.

    Returns:
        log-probabilities in nats, float32 `(k·B, L)`, and booleans of that shape: whether a token is one of the
        caption, up to its ending, which is one of them.
    """
    ids = processor.opening_ids() if opening_ids is None else opening_ids
    opening = torch.tensor(ids, dtype=torch.long, device=tokens.device)
    ends = tokens == processor.end_token_id
    counted = (ends.cumsum(dim=1) - ends.long()) == 0  # (k·B, L)
    # The last token predicts nothing.
    text = torch.cat([opening.expand(len(tokens), -1), tokens[:, :-1]], dim=1)
    mask = torch.cat([torch.ones_like(text[:, : len(opening)]), counted[:, :-1].long()], dim=1)
    logits = model(
        prompt=prompt,
        input_ids=text,
        attention_mask=mask,
        logits_to_keep=tokens.shape[1],
        opening_tokens=len(opening),
    ).logits  # (k·B, L, V)
    return logits.float().log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1), counted


def mean_log_probabilities(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, prompt: SoftPrompt, tokens: Tensor
) -> list[float]:
    """Average :func:`log_probabilities` over the tokens of each caption, its ending included: `k·B` means, in nats."""
    chosen, counted = log_probabilities(model, processor, prompt, tokens)
    means: list[float] = (chosen.where(counted, 0).sum(dim=1) / counted.sum(dim=1)).tolist()
    return means
