"""Trains the language model: a byte-level tokenizer and a tiny OPT, on captions, without any image."""

import logging
import math
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from evlvideo.mini.captions import write_captions, write_still_captions
from evlvideo.mini.world import sample_scene
from evlvideo.models.processing import IGNORED
from mini_checkpoint.common import muon_and_adamw, update, warm_up_and_cosine

MAX_POSITIONS = 192
VOCABULARY = 1200
"""Upper bound of the tokenizer's entries; it stops earlier once every word of the captions is one."""

FUNCTION_WORDS = {"a", "an", "the", "is", "are", "there", "this", "of", "and", "with", "to", "it", "its"}

log = logging.getLogger(__name__)


def caption_lines(rng: random.Random) -> list[str]:
    """Write some captions of one scene: of its clip, or of a still from it."""
    scene = sample_scene(rng)
    count = rng.randint(2, 6)
    if rng.random() < 0.3:
        return [caption.text for caption in write_still_captions(scene, rng, count, rng.random())]
    return [caption.text for caption in write_captions(scene, rng, count)]


def build_tokenizer(scenes: int, seed: int) -> PreTrainedTokenizerFast:
    """Train byte-level BPE with OPT's special tokens on captions; a newline is one token."""
    rng = random.Random(f"checkpoint/tokenizer/{seed}")
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((line + "\n" for _ in range(scenes) for line in caption_lines(rng)), trainer)
    # As in OPT, BOS is </s>.
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=MAX_POSITIONS,
    )


def keywords(lines: list[str], rng: random.Random) -> str:
    """Sample words of the first two captions in any order, to precede the captions."""
    words = sorted({word for line in lines[:2] for word in line.split()} - FUNCTION_WORDS)
    return "".join(f" {word}" for word in rng.sample(words, rng.randint((len(words) + 1) // 2, len(words))))


def document(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> tuple[list[int], list[int]]:
    """Make the tokens of one scene's captions, half of the time after keywords, and their labels.

    The keywords are not targets. They teach the model to use what precedes the BOS token in any order, as a model
    trained on the web can, and as a soft prompt requires.
    """
    lines = caption_lines(rng)
    prefix = tokenizer(keywords(lines, rng), add_special_tokens=False)["input_ids"] if rng.random() < 0.5 else []
    said = [token for row in tokenizer([line + "\n" for line in lines])["input_ids"] for token in row]
    return prefix + said, [IGNORED] * len(prefix) + said


def text_blocks(tokenizer: PreTrainedTokenizerFast, rng: random.Random, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of packed documents and their labels, `(rows, MAX_POSITIONS)` each."""
    tokens: list[int] = []
    labels: list[int] = []
    size = rows * MAX_POSITIONS
    while True:
        while len(tokens) < size:
            more_tokens, more_labels = document(tokenizer, rng)
            tokens += more_tokens
            labels += more_labels
        yield torch.tensor(tokens[:size]).view(rows, -1), torch.tensor(labels[:size]).view(rows, -1)
        del tokens[:size], labels[:size]


def perplexity_of_captions(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> float:
    """Compute the perplexity per token of new captions, newline included, without preceding text."""
    rng = random.Random(f"checkpoint/held-out/{seed}")
    lines = [line + "\n" for _ in range(150) for line in caption_lines(rng)]
    batch = tokenizer(lines, return_tensors="pt", padding=True)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    targets = ids[:, 1:].masked_fill(mask[:, 1:] == 0, IGNORED)
    return math.exp(F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item())


def train_language_model(
    out: Path, steps: int, seed: int = 0, rows: int = 8, tokenizer_scenes: int = 8000
) -> dict[str, float]:
    """Train the tokenizer and a tiny OPT on captions; write them to `out`/language_model."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(tokenizer_scenes, seed)
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if len(newline) != 1:
        raise RuntimeError(f"A newline is {len(newline)} tokens; captions end with one.")
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        word_embed_proj_dim=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        ffn_dim=512,
        max_position_embeddings=MAX_POSITIONS,
        dropout=0.0,
        attention_dropout=0.0,
        layerdrop=0.0,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=2,
    )
    model = OPTForCausalLM(config).train()
    optimizers = muon_and_adamw(model, "model.decoder.layers.", 4e-3, 2e-3)
    schedules = [warm_up_and_cosine(optimizer, steps) for optimizer in optimizers]
    blocks = text_blocks(tokenizer, random.Random(f"checkpoint/text/{seed}"), rows)
    for step in range(steps):
        ids, labels = next(blocks)
        logits = model(input_ids=ids).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        update(loss, model, optimizers, schedules)
        if step % 50 == 0 or step == steps - 1:
            log.info("language model, step %d of %d: loss %.3f", step, steps, loss.item())
    model.eval()
    perplexity = perplexity_of_captions(model, tokenizer, seed)
    folder = out / "language_model"
    tokenizer.save_pretrained(folder)
    model.half().save_pretrained(folder)
    return {"perplexity": perplexity, "vocabulary": len(tokenizer)}
