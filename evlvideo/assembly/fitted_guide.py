"""Fits what guides pruning to training clips, before the first step and without gradients.

1. A text is the mean of its word embeddings in the captioner's language model. A ridge regression takes the texts of
   clips to the class tokens that the whole tower gives for their frames. So a text guides by the class token that clips
   with such captions have, as ELIP's CLIP host takes a text back to its tower's width by the tower's own projection.
2. `prompt` is one text. `draft` keeps the regression, for the drafts to come. `predicted` needs no text any more:
   another regression takes the class token before each prune to the guide that the captions of its clip would be.

Nobody has published this; see :mod:`evlvideo.models.blocks.pruning_guide`. Notation: `C` clips, `T` frames, `J` prunes,
`D` channels of the tower, `E` width of the language model.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from evlvideo.assembly.fitted_start import PENALTY, mean_word, new_clips
from evlvideo.errors import UserError
from evlvideo.models.blocks.pruning_guide import PruningGuide
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.tokens.ridge import ridge_to_targets
from evlvideo.processes import on_main_process
from evlvideo.progress import timed

logger = logging.getLogger(__name__)

GUIDE_CLIPS = 1000
"""Clips that a guide is fitted to, at most."""


def needs_fit(model: EvlVideoForCaptioning) -> bool:
    """Whether a captioner prunes by a guide that is not fitted yet."""
    guide = model.vision_tower.pruning_guide
    return guide is not None and not guide.is_fitted


def check_guide(model: EvlVideoForCaptioning, reason: str) -> None:
    """Check that a captioner's guide is fitted, if it has one.

    Args:
        model: the captioner.
        reason: why it must be, for the message.

    Raises:
        UserError: it is not.
    """
    if needs_fit(model):
        raise UserError(
            f"pruning.guide is {model.config.pruning_guide}, which was not fitted to clips yet, and {reason}; train a "
            "run with these keys of pruning, which begins with the fit, and take that run's checkpoint."
        )


@torch.no_grad()
def fit_guide(
    model: EvlVideoForCaptioning, tokenizer: Any, batches: Iterable[Mapping[str, Any]], clips: int = GUIDE_CLIPS
) -> None:
    """Fit a captioner's guide to clips, in place.

    All processes must call this. One computes, and the others take its values.

    Args:
        model: a captioner with its language model, on its device, and with a guide.
        tokenizer: the language model's.
        batches: from :class:`~evlvideo.data.loading.collate.CaptionCollator`, with frames. Only the main process reads
            them.
        clips: take at most so many; a clip that comes again is passed over.
    """
    guide = model.vision_tower.pruning_guide
    assert guide is not None, "the captioner has no guide"

    def fitted() -> dict[str, Tensor]:
        mode = model.training
        model.eval()
        with timed("Fitting the guide of pruning", logger.info) as outcome, model.autocast():
            class_tokens, texts = _take(model, tokenizer, batches, clips)
            prompt = model.config.pruning_options.prompt if model.config.pruning_options else None
            words = model.language_model.get_input_embeddings()
            _fit(guide, class_tokens, texts, None if prompt is None else mean_word(words, tokenizer, [prompt]))
            outcome.append(f"{len(texts):,} clips")
        model.train(mode)
        return {name: value.cpu() for name, value in guide.state_dict().items()}

    guide.load_state_dict(on_main_process(fitted))


def _take(
    model: EvlVideoForCaptioning, tokenizer: Any, batches: Iterable[Mapping[str, Any]], most: int
) -> tuple[Tensor, Tensor]:
    """Return the class tokens of clips, `(C, T, J + 1, D)`, and the features of their captions, `(C, E)`."""
    tower, words = model.vision_tower, model.language_model.get_input_embeddings()
    class_tokens, texts = [], []
    for inputs, captions in new_clips(batches, most):
        class_tokens.append(tower.class_tokens(inputs["pixel_values"].to(tower.device)).cpu())
        texts += [mean_word(words, tokenizer, of_clip).cpu() for of_clip in captions]
    return torch.cat(class_tokens), torch.stack(texts)


def _fit(guide: PruningGuide, class_tokens: Tensor, texts: Tensor, prompt: Tensor | None) -> None:
    """Fit a guide of any kind.

    Args:
        guide: fitted in place.
        class_tokens: `(C, T, J + 1, D)`.
        texts: features of the captions, `(C, E)`.
        prompt: feature of the prompt, `(E)`, if there is one.
    """
    weight, bias = ridge_to_targets([texts.unsqueeze(1)], class_tokens[:, :, -1].mean(dim=1), PENALTY)
    if prompt is not None:
        guide.fit(None, weight @ prompt.cpu() + bias)
    elif guide.kind == "draft":
        guide.fit(weight, bias)
    else:
        guides = texts @ weight.T + bias  # (C, D)
        prunes = class_tokens[:, :, :-1].unbind(dim=2)
        weights, biases = zip(*(ridge_to_targets([x], guides, PENALTY) for x in prunes), strict=True)
        guide.fit(torch.stack(weights), torch.stack(biases))
