"""Who sees whom in the language model: tokens of a block see each other, all others only what stands before them.

Under `causal`, EVLGen's mask, there is no block. Under `full` it is the soft tokens; under `full_with_question` it is
all that stands before a caption, as in PaliGemma (Beyer et al., 2024). Notation: `B` rows, `N` tokens, `E` width of the
language model.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask

from evlvideo.errors import UserError
from evlvideo.models.choices import VISUAL_MASKS
from evlvideo.models.sources.language import MASKED_ATTENTION, problem_of_visual_mask

CAUSAL, FULL, FULL_WITH_QUESTION = VISUAL_MASKS
_ROUNDING = 1e-3
"""Share by which the same may differ with and without padding, in float32."""


def block_inputs(language_model: PreTrainedModel, embeddings: Tensor, mask: Tensor, block: Tensor) -> dict[str, Tensor]:
    """Make the arguments with which a language model reads a block and the text around it in one pass.

    Args:
        language_model: reads them.
        embeddings: `(B, N, E)`, from the first position on.
        mask: ones on tokens, zeros on padding, which nothing sees, `(B, N)`.
        block: booleans, `(B, N)` or `(1, N)`; true for tokens that see each other.

    Returns:
        `attention_mask`, `(B, 1, N, N)`, and `position_ids`, `(B, N)`, which count tokens and no padding.

    Raises:
        UserError: the language model's attention takes no such mask.
    """
    config: PreTrainedConfig = language_model.config.get_text_config(decoder=True)
    if config._attn_implementation not in MASKED_ATTENTION:
        raise _refusal(config, str(problem_of_visual_mask(config)))
    seen: Any = create_causal_mask(
        config=config,
        inputs_embeds=embeddings,
        attention_mask=mask,
        cache=None,
        block_sequence_ids=block.expand(mask.shape).long() - 1,  # 0 in the block, −1 outside
    )
    return {"attention_mask": seen, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def check_takes_blocks(language_model: PreTrainedModel) -> None:
    """Check that a language model lets tokens see later ones if its mask says so; try it, if it has weights.

    Raises:
        UserError: it does not, or its configuration tells that it cannot.
    """
    config = language_model.config
    problem = problem_of_visual_mask(config)
    if problem is None and language_model.device.type != "meta":
        training = language_model.training
        language_model.eval()  # dropout would draw, and differ
        problem = None if _takes_blocks(language_model) else "does not let tokens see later ones"
        language_model.train(training)
    if problem is not None:
        raise _refusal(config, problem)


def _refusal(config: PreTrainedConfig, problem: str) -> UserError:
    return UserError(
        f"The language model ({config.model_type}) {problem}; set model.visual_mask to {CAUSAL}, or name one of OPT's, "
        "LLaMA's, Qwen2's or GPT-2's kind."
    )


@torch.no_grad()
def _takes_blocks(language_model: PreTrainedModel) -> bool:
    """Read words as a block with padding in it: the first must see the last, none the padding, nor count it."""
    padded = torch.tensor([[1, 1, 0, 1, 1]])
    try:
        alone = _read(language_model, [0, 1, 2, 3], torch.ones(1, 4, dtype=torch.long))
        among = _read(language_model, [0, 1, 4, 2, 3], padded)
        other_padding = _read(language_model, [0, 1, 5, 2, 3], padded)
        other_last = _read(language_model, [0, 1, 4, 2, 5], padded)
    except (IndexError, RuntimeError, TypeError, ValueError):  # a model that makes something else of its mask
        return False
    sees_last = not torch.equal(among[0], other_last[0])
    sees_padding = not torch.equal(among, other_padding)
    rounding = max(_ROUNDING, 16 * torch.finfo(language_model.dtype).eps)
    counts_padding = float((among - alone).norm() / alone.norm()) > rounding
    return sees_last and not sees_padding and not counts_padding


def _read(language_model: PreTrainedModel, ids: list[int], mask: Tensor) -> Tensor:
    """Read words as one block, and return what the model makes of those that are no padding, `(N, E)`."""
    words: Any = language_model.get_input_embeddings()
    mask = mask.to(language_model.device)
    embeddings: Tensor = words(torch.tensor([ids], device=mask.device))
    given = block_inputs(language_model, embeddings, mask, mask.bool())
    output: Any = language_model.base_model(inputs_embeds=embeddings, use_cache=False, **given)
    hidden: Tensor = output.last_hidden_state
    return hidden[mask.bool()].float()
