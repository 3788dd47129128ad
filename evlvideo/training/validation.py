"""Validates a captioner: by the captions of the validation clips, and by what no score shows.

Notation: `B` clips, `k` references of each, `L` text tokens, `P` soft tokens, `E` width of the language model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import Dataset, Subset

from evlvideo.config.generation import GenerationConfig
from evlvideo.inference.answering import Questionnaire
from evlvideo.inference.captioning import EncodedBatch, encode_batches, generate_captions
from evlvideo.inference.captions import Caption, count_special_tokens, texts_of
from evlvideo.metrics.answers.normalization import normalized, one_line
from evlvideo.metrics.scoring import score_tokenized
from evlvideo.metrics.tokenized_references import TokenizedReferences
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import SoftPrompt
from evlvideo.models.processing import IGNORED, EvlVideoProcessor
from evlvideo.models.tokens.prompt_statistics import (
    PromptSpread,
    TokenMoments,
    joined_moments,
    spread_of,
    token_moments,
)
from evlvideo.results.validation_records import Sample
from evlvideo.training.health.collapse import bad_ending_share

SELECTION_TOKENIZER = "python"
"""The default. Selects the same checkpoint on machines with and without Java."""
REFERENCES_IN_LOSS = 1
"""The validation loss is over the first references of each clip, at most this many."""
SHOWN_REFERENCES = 3
"""References beside a sample caption, at most."""
START_CLIPS = 8
"""Clips whose soft prompts are looked at before the first step."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What a validation found."""

    captions: Mapping[str, Caption]
    """Clip id → caption, of all clips that could be decoded."""
    cider: float
    """CIDEr of the captions, as a fraction."""
    loss: float | None
    """Mean cross-entropy over the target tokens of all clips in eval mode. `None` if no clip has a reference."""
    spread: PromptSpread | None
    """Spread of the soft prompts, without those that ask again about a picture; None if there is one picture."""
    accuracy: float | None = None
    """Share of the captions that are right answers; None if they answer no questions."""

    def log_values(self) -> dict[str, float]:
        """Return the values of a validation's line in the log, by key. CIDEr and shares are fractions."""
        texts = [caption.text for caption in self.captions.values()]
        loss = {} if self.loss is None else {"validation_loss": self.loss}
        spread = {"validation_clips": len(texts), **({} if self.spread is None else _spread_values(self.spread))}
        if self.accuracy is not None:
            # Good answers are often equal, unlike good captions, so that signs of collapse would mislead.
            return {"validation_accuracy": self.accuracy, **loss, **spread}
        return {
            "validation_cider": self.cider,
            **loss,
            "validation_distinct": len(set(texts)) / len(texts),
            "validation_empty": texts.count("") / len(texts),
            "validation_bad_endings": bad_ending_share(texts),
            "validation_special_tokens": count_special_tokens(self.captions.values()).total(),
            **spread,
        }

    def samples(self, references: Mapping[str, Sequence[str]]) -> tuple[Sample, ...]:
        """Return the captions of the first clip and of one in the middle, the same ones at every validation."""
        clips = list(self.captions)
        shown = dict.fromkeys((clips[0], clips[len(clips) // 2]))
        return tuple(
            Sample(clip_id, self.captions[clip_id].text, tuple(references[clip_id][:SHOWN_REFERENCES]))
            for clip_id in shown
        )


def _spread_values(spread: PromptSpread) -> dict[str, float]:
    """Return the log's values of a spread."""
    return {
        "validation_prompt_between": spread.between,
        "validation_prompt_within": spread.within,
        "validation_prompt_norm": spread.norm,
    }


class Validator:
    """Captions validation clips, and measures loss and spread of the soft prompts that are captioned.

    Processes share the clips; call its methods in all of them. All get the same results.

    Args:
        captioner: the model; in eval mode meanwhile.
        processor: its processor.
        references: clip id → captions, for all validation clips.
        generation: how to decode.
        num_workers: upper bound of processes that decode video.
        tokenizer: splits captions and references into words.
        questionnaire: asks a question about each clip, whose answers its references are. If None, clips are captioned.
    """

    def __init__(
        self,
        captioner: EvlVideoForCaptioning,
        processor: EvlVideoProcessor,
        references: Mapping[str, list[str]],
        generation: GenerationConfig,
        *,
        num_workers: int,
        tokenizer: str = SELECTION_TOKENIZER,
        questionnaire: Questionnaire | None = None,
    ) -> None:
        self._questionnaire = questionnaire
        self._captioner = captioner
        self._processor = processor
        self.references = references
        # Tokenized once; each validation scores the clips that could be decoded.
        self._tokenized = TokenizedReferences.of(references, tokenizer)
        self._generation = generation
        self._num_workers = num_workers

    def validate(self, dataset: Dataset[dict[str, Any]], *, stop: Callable[[], bool] = lambda: False) -> Validation:
        """Caption clips and score them.

        Args:
            dataset: items of one clip each.
            stop: called after each batch; whether to leave out the others.

        Raises:
            UserError: no clip could be decoded.
            Interrupted: a process stopped; in every process.
        """
        losses: list[tuple[float, int]] = []
        moments: list[TokenMoments] = []

        def observe(batch: EncodedBatch) -> None:
            losses.append(summed_loss(self._captioner, batch.prompt, self._texts(batch.clip_ids)))
            if first := [place for place, clip_id in enumerate(batch.clip_ids) if self._is_first(clip_id)]:
                moments.append(_on_host(token_moments(batch.soft_prompt[first])))

        captions = generate_captions(
            self._captioner,
            self._processor,
            dataset,
            self._generation,
            num_workers=self._num_workers,
            observe=observe,
            ask=None if self._questionnaire is None else self._questionnaire.ask,
            stop=stop,
        )
        words = self._tokenized.tokenize(texts_of(captions))
        scores = score_tokenized(words, self._tokenized, metrics=("cider",))
        sums, targets = (sum(column) for column in zip(*gather_object(losses), strict=True))
        of_all = joined_moments(gather_object(moments))
        return Validation(
            captions=captions,
            cider=scores.corpus["cider"],
            loss=sums / targets if targets else None,
            spread=spread_of(of_all) if len(of_all.norm) > 1 else None,
            accuracy=None if self._questionnaire is None else right_share(texts_of(captions), self.references),
        )

    def values_at_start(self, dataset: Dataset[dict[str, Any]]) -> dict[str, float]:
        """Return the log's values of the first few pictures' soft prompts, without captioning them."""

        def measure(soft_prompt: Tensor, clip_ids: Sequence[str]) -> list[TokenMoments]:
            return [_on_host(token_moments(clip)) for clip in soft_prompt.split(1)]

        firsts = (place for place, clip_id in enumerate(self.references) if self._is_first(clip_id))
        few = Subset(dataset, list(islice(firsts, START_CLIPS)))
        size = min(START_CLIPS, self._generation.batch_size)
        batches = encode_batches(self._captioner, few, measure, batch_size=size, num_workers=self._num_workers)
        mine = [clip.result for batch in batches for clip in batch if clip.result is not None]
        moments = gather_object(mine)
        if len(moments) < 2:
            return {}
        return {"validation_clips": len(moments), **_spread_values(spread_of(joined_moments(moments)))}

    def _is_first(self, clip_id: str) -> bool:
        """Whether no clip before it has the same picture, so that its soft prompt may differ from theirs."""
        return self._questionnaire is None or clip_id in self._questionnaire.firsts

    def _texts(self, clip_ids: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize the first `k` references of each clip in turn, `(k·B, L)`; missing ones have no targets."""
        given = [(*self.references[clip_id], *[None] * REFERENCES_IN_LOSS)[:REFERENCES_IN_LOSS] for clip_id in clip_ids]
        texts = [text for of_clip in given for text in of_clip]
        words = [text or "" for text in texts]
        owners = [clip_id for clip_id in clip_ids for _ in range(REFERENCES_IN_LOSS)]
        asked = self._questionnaire
        batch = self._processor.text(words) if asked is None else asked.answers(words, owners)
        batch["labels"][[text is None for text in texts]] = IGNORED
        return batch


def right_share(answers: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> float:
    """Return the share of answers that are one of their references, but for case, articles and punctuation."""
    right = [
        normalized(one_line(answer)) in {normalized(one_line(text)) for text in references[question]}
        for question, answer in answers.items()
    ]
    return sum(right) / len(right)


@torch.no_grad()
def summed_loss(captioner: EvlVideoForCaptioning, prompt: SoftPrompt, texts: Mapping[str, Tensor]) -> tuple[float, int]:
    """Compute the cross-entropy of texts that follow soft prompts, summed over their targets, and count these.

    Args:
        captioner: the model, in eval mode.
        prompt: soft prompts of `B` clips, as the language model has read them.
        texts: `input_ids`, `attention_mask` and `labels`, each `(k·B, L)`, `k` texts of each clip in turn.
    """
    given: dict[str, Any] = {name: value.to(captioner.device) for name, value in texts.items()}
    kept = given["labels"].shape[1] + 1
    loss = captioner(prompt=prompt, **given, num_items_in_batch=1, logits_to_keep=kept).loss
    return loss.item(), int(texts["labels"].ne(IGNORED).sum())


@torch.no_grad()
def losses_by_mode(captioner: EvlVideoForCaptioning, batch: Mapping[str, Any]) -> dict[str, float]:
    """Compute the loss of a training batch with dropout and without it, by the same weights.

    The two differ by the mode alone, as training and validation loss do not. Draws dropout from torch's generators, and
    leaves them as they were.

    Args:
        captioner: the model; left in the mode that it is in.
        batch: arguments of its forward pass, with labels; each process may have another.

    Returns:
        `batch_loss` and `batch_loss_eval_mode`, means over the targets of all processes, in every process.
    """
    device, was_training = captioner.device, captioner.training
    targets = int(batch["labels"].ne(IGNORED).sum())
    losses = {}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for name, training in (("batch_loss", True), ("batch_loss_eval_mode", False)):
            losses[name] = captioner.train(training)(**batch, num_items_in_batch=1).loss.item()
    captioner.train(was_training)
    shares = gather_object([(losses, targets)])
    total = sum(count for _, count in shares)
    return {name: sum(share[name] for share, _ in shares) / total for name in losses}


def _on_host(moments: TokenMoments) -> TokenMoments:
    return TokenMoments(moments.mean.cpu(), moments.deviation.cpu(), moments.norm.cpu())
