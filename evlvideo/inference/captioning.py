"""Caption every clip of a dataset, in one process or several."""

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from evlvideo.config.generation import GenerationConfig
from evlvideo.config.run import RunConfig
from evlvideo.data.loading.collate import stack_visual_inputs, visual_inputs
from evlvideo.errors import Interrupted, UserError
from evlvideo.inference.captions import Caption
from evlvideo.inference.forbidden_words import ForbiddenWords
from evlvideo.inference.pipeline import Outcome, batches_of, run_batches
from evlvideo.inference.scores import mean_log_probabilities
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import SoftPrompt
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.progress import Progress

Result = TypeVar("Result")


class EncodedBatch(NamedTuple):
    """The good clips of a batch before they are captioned."""

    clip_ids: Sequence[str]
    soft_prompt: Tensor
    """`(B, P, E)`."""
    prompt: SoftPrompt
    """The same, as the language model has read it."""


def generate_captions(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int = 0,
    console: Console | None = None,
    observe: Callable[[EncodedBatch], None] | None = None,
    ask: Callable[[Sequence[str]], dict[str, Tensor]] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Caption]:
    """Caption clips. Processes share them; call this in every process.

    Args:
        model: the captioner; in eval mode meanwhile.
        processor: its processor.
        dataset: items of one clip each.
        generation: how to decode.
        num_workers: upper bound of processes that decode video.
        console: where to draw a progress bar. If None, only lines are logged.
        observe: called with each batch of this process before it is captioned, in eval mode, without gradient.
        ask: returns what each clip is asked, by their ids, as :meth:`EvlVideoProcessor.questions` does; captions are
            the answers. Defaults to the processor's prompt.
        stop: called after each batch; whether to leave out the others. The processes meet all the same.

    Returns:
        clip id → caption of all clips that could be decoded, in the order of the dataset, in every process.

    Raises:
        UserError: no clip could be decoded.
        Interrupted: a process stopped; in every process.
    """
    mine: list[list[Outcome[list[Caption]]]] = []
    stopped = False
    captioned = _caption_batches(
        model, processor, dataset, generation, num_workers=num_workers, observe=observe, ask=ask
    )
    with Progress("captioning", sum(map(len, share_of(dataset, generation.batch_size))), console=console) as progress:
        for batch in progress.track(captioned, count=len):
            mine.append(batch)
            if stopped := stop():
                captioned.close()
                break
    shares = gather_object([(mine, stopped)])
    if any(of_process for _, of_process in shares):
        raise Interrupted("The captioning was stopped.")
    batches = _in_turn([share for share, _ in shares])
    captions = {item.clip_id: item.result[0] for batch in batches for item in batch if item.result is not None}
    if not captions:
        raise UserError("No clip could be decoded, so there is nothing to score; see the log above.")
    return captions


def stream_captions(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int = 0,
    captions_per_clip: int = 1,
    scored: bool = False,
    batch_seed: int | None = None,
) -> Iterator[Outcome[list[Caption]]]:
    """Caption clips as :func:`generate_captions` does, and yield each as soon as its batch is done.

    Args:
        model: as there.
        processor: as there.
        dataset: as there.
        generation: as there.
        num_workers: as there.
        captions_per_clip: captions of each clip, the likeliest first; beam search needs at least as many beams.
        scored: whether captions have scores.
        batch_seed: seeds each batch by this and its clips, so that sampled captions do not depend on the number of
            processes or on earlier batches. If None, the random state goes on from batch to batch.

    Yields:
        the captions of each clip, in the order of the dataset, in every process. Only a few batches are in memory.
    """
    mine = _caption_batches(
        model,
        processor,
        dataset,
        generation,
        num_workers=num_workers,
        captions_per_clip=captions_per_clip,
        observe=None if batch_seed is None else partial(seed_batch, batch_seed),
        scored=scored,
    )
    yield from gather_stream(mine, dataset, generation.batch_size)


def seed_batch(seed: int, batch: EncodedBatch) -> None:
    """Seed what is sampled for a batch by a seed and its clips."""
    digest = hashlib.sha256(repr([seed, *batch.clip_ids]).encode("utf-8", "surrogateescape")).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "little"))


def gather_stream(
    mine: Iterator[list[Outcome[Result]]], dataset: Dataset[dict[str, Any]], batch_size: int
) -> Iterator[Outcome[Result]]:
    """Yield the outcomes of all processes, in the order of the dataset, from this process's of :func:`encode_batches`.

    A batch of every process is done at a time, so only a few are in memory.
    """
    for _ in range(0, len(_batches(dataset, batch_size)), PartialState().num_processes):
        yield from gather_object(next(mine, []))


def _caption_batches(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int,
    captions_per_clip: int = 1,
    observe: Callable[[EncodedBatch], None] | None = None,
    ask: Callable[[Sequence[str]], dict[str, Tensor]] | None = None,
    scored: bool = False,
) -> Generator[list[Outcome[list[Caption]]]]:
    """Caption this process's share of the batches.

    Batches do not depend on the number of processes, so neither do greedy and beam search. Sampled captions depend on
    the batch size, the number of processes and earlier batches, unless `observe` seeds each batch.
    """
    caption = caption_prompts(
        model, processor, generation, captions_per_clip=captions_per_clip, observe=observe, ask=ask, scored=scored
    )
    return encode_batches(model, dataset, caption, batch_size=generation.batch_size, num_workers=num_workers)


def caption_prompts(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    generation: GenerationConfig,
    *,
    captions_per_clip: int = 1,
    observe: Callable[[EncodedBatch], None] | None = None,
    ask: Callable[[Sequence[str]], dict[str, Tensor]] | None = None,
    scored: bool = False,
) -> Callable[[Tensor, Sequence[str]], list[list[Caption]]]:
    """Return a function that captions soft prompts `(B, P, E)` of clips with these ids, each as often as asked.

    Args:
        model: as in :func:`stream_captions`.
        processor: as there.
        generation: as there.
        captions_per_clip: as there.
        observe: as in :func:`generate_captions`.
        ask: as there.
        scored: as in :func:`stream_captions`.
    """
    arguments = {**decoding_arguments(generation, processor.tokenizer), "num_return_sequences": captions_per_clip}

    def caption(soft_prompt: Tensor, clip_ids: Sequence[str]) -> list[list[Caption]]:
        prompt = model.read_prompt(soft_prompt)
        if observe is not None:
            observe(EncodedBatch(clip_ids, soft_prompt, prompt))
        given: dict[str, Any] = {"prompt_ids": processor.prompt_ids()} if ask is None else ask(clip_ids)
        generated = model.generate(prompt=prompt, **given, **arguments)
        scores = mean_log_probabilities(model, processor, prompt, generated) if scored else [None] * len(generated)
        tokens = generated.cpu()
        made = zip(processor.captions(tokens), processor.special_tokens(tokens), scores, strict=True)
        captions = [Caption(text, tuple(found), score) for text, found, score in made]
        return [captions[first : first + captions_per_clip] for first in range(0, len(captions), captions_per_clip)]

    return caption


def encode_batches(
    model: EvlVideoForCaptioning,
    dataset: Dataset[dict[str, Any]],
    work: Callable[[Tensor, Sequence[str]], Sequence[Result]],
    *,
    batch_size: int,
    num_workers: int,
) -> Generator[list[Outcome[Result]]]:
    """Encode this process's share of the clips, in eval mode, and hand on the soft prompts.

    Args:
        model: the captioner.
        dataset: items of one clip each.
        work: takes the soft prompts of the good clips of a batch, `(B, P, E)`, and their ids, and returns a result for
            each clip.
        batch_size: clips encoded at once.
        num_workers: upper bound of processes that decode video.

    Yields:
        for each batch, the outcome of each clip, in order.
    """
    mine = share_of(dataset, batch_size)
    was_training = model.training
    model.eval()
    try:
        work_on = partial(encode_and, model, work)
        yield from run_batches(dataset, mine, work_on, collate=named_inputs, num_workers=num_workers)
    finally:
        model.train(was_training)


@torch.no_grad()
def encode_and(
    model: EvlVideoForCaptioning, work: Callable[[Tensor, Sequence[str]], Sequence[Result]], batch: Mapping[str, Any]
) -> Sequence[Result]:
    """Encode a batch of :func:`named_inputs` on the model's device, and hand on the soft prompts.

    Args:
        model: the captioner; in eval mode.
        work: as in :func:`encode_batches`.
        batch: visual inputs and `clip_ids`.
    """
    device = next(model.language_projection.parameters()).device
    inputs: dict[str, Any] = {name: value.to(device, non_blocking=True) for name, value in visual_inputs(batch).items()}
    return work(model.encode(**inputs), batch["clip_ids"])


def named_inputs(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack visual inputs, and name their clips."""
    return {**stack_visual_inputs(items), "clip_ids": [item["clip_id"] for item in items]}


def _batches(dataset: Dataset[dict[str, Any]], batch_size: int) -> list[range]:
    return batches_of(len(cast(Sized, dataset)), batch_size)


def share_of(dataset: Dataset[dict[str, Any]], batch_size: int) -> list[range]:
    """Return this process's batches."""
    state = PartialState()
    return _batches(dataset, batch_size)[state.process_index :: state.num_processes]


def _in_turn(shares: Sequence[Sequence[list[Outcome[list[Caption]]]]]) -> Iterator[list[Outcome[list[Caption]]]]:
    """Put the batches of all processes in the order of the dataset."""
    for of_round in zip_longest(*shares, fillvalue=[]):
        yield from of_round


def decoding_arguments(
    generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase | None = None
) -> dict[str, Any]:
    """Convert a run's decoding to arguments of :meth:`EvlVideoForCaptioning.generate`.

    Args:
        generation: the decoding.
        tokenizer: the language model's, which only forbidden words need.
    """
    common: dict[str, Any] = {"max_new_tokens": generation.max_new_tokens, "min_new_tokens": generation.min_new_tokens}
    if generation.repetition_penalty != 1:
        common["repetition_penalty"] = generation.repetition_penalty
    if generation.forbidden_words:
        assert tokenizer is not None, "forbidden words need the tokenizer"
        common["logits_processor"] = [ForbiddenWords(generation.forbidden_words, tokenizer)]
    if generation.do_sample:
        return {**common, "do_sample": True, "top_p": generation.top_p, "temperature": generation.temperature}
    if generation.num_beams > 1:
        return {**common, "num_beams": generation.num_beams, "length_penalty": generation.length_penalty}
    return common


def decoding_facts(config: RunConfig) -> dict[str, Any]:
    """Return what captions depend on beside the model. Leaves out the batch size."""
    of_beams, of_sampling = {"num_beams", "length_penalty"}, {"do_sample", "top_p", "temperature"}
    without = {"batch_size"} | (of_beams if config.generation.do_sample else of_sampling)
    # So that decoding without them compares equal with results from before the keys.
    if config.generation.repetition_penalty == 1:
        without.add("repetition_penalty")
    if not config.generation.forbidden_words:
        without.add("forbidden_words")
    generation = {name: value for name, value in asdict(config.generation).items() if name not in without}
    return {**generation, "num_frames": config.data.num_frames, "sampling": config.data.eval_sampling}
