"""How likely captions are under the model that generated them."""

import torch
from torch import Tensor

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import SoftPrompt
from evlvideo.models.processing import EvlVideoProcessor


@torch.no_grad()
def mean_log_probabilities(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, prompt: SoftPrompt, tokens: Tensor
) -> list[float]:
    """Average the log-probabilities of generated tokens, by one teacher-forced pass over all of them.

    They are the model's own, whatever chose the tokens: without temperature, nucleus, penalties and beams.

    Args:
        model: generated the tokens; in eval mode.
        processor: its processor.
        prompt: soft prompts of `B` clips, as the language model has read them.
        tokens: new tokens of `k` captions of each clip in turn, `(k·B, L)`.

    Returns:
        for each caption, the mean over its tokens up to its ending, which is one of them, in nats.
    """
    opening = torch.tensor(processor.opening_ids(), dtype=torch.long, device=tokens.device)
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
    chosen = logits.float().log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)  # (k·B, L)
    means: list[float] = (chosen.where(counted, 0).sum(dim=1) / counted.sum(dim=1)).tolist()
    return means
