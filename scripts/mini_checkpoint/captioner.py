"""Trains the captioner: an EVLGen between the two towers, on stills with captions, without any video."""

import logging
import random
from pathlib import Path

import numpy as np
import torch
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor
from transformers import AutoTokenizer

from evlvideo.mini.captions import write_still_captions
from evlvideo.mini.render import render_still
from evlvideo.mini.world import sample_scene
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from mini_checkpoint.common import muon_and_adamw, pooled_batches, update, warm_up_and_cosine
from mini_checkpoint.vision import GRID, IMAGE_SIZE, TOWER_NAME, TOWER_OVERRIDES, normalised

PACKAGE_ASSETS = Path(__file__).parents[2] / "evlvideo" / "assets" / "mini"

log = logging.getLogger(__name__)


def captioner_config(out: Path, newline_id: int) -> EvlVideoConfig:
    """Return the image captioner's architecture, with towers in the package or in `out`."""
    source = "package:mini" if out.resolve() == PACKAGE_ASSETS.resolve() else str(out.resolve())
    return EvlVideoConfig(
        vision_tower=TOWER_NAME,
        vision_overrides=TOWER_OVERRIDES,
        vision_weights=f"{source}/vision_tower/model.safetensors",
        vision_final_norm=True,
        image_mean=list(OPENAI_CLIP_MEAN),
        image_std=list(OPENAI_CLIP_STD),
        language_model=f"{source}/language_model",
        bert_config={
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "max_position_embeddings": GRID**2 + 1,
            "vocab_size": 2,
            "initializer_range": 0.08,  # BERT's 0.02 suits a width of 768
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        merge_r=12,
        bos_token_id=2,
        end_token_id=newline_id,
        pad_token_id=1,
    )


def draw_captioned_still(rng: random.Random) -> tuple[np.ndarray, str]:
    """Sample a whole still and one of its captions."""
    scene, moment = sample_scene(rng), rng.random()
    return render_still(scene, IMAGE_SIZE, moment), write_still_captions(scene, rng, 1, moment)[0].text


def train_captioner(out: Path, steps: int, seed: int = 0, batch: int = 64, pool: int = 4096) -> dict[str, float]:
    """Train the connector between the two towers in `out` on stills; write the checkpoint to `out`/evlgen."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(out / "language_model")
    processor = EvlVideoProcessor(tokenizer, image_size=IMAGE_SIZE)
    model = EvlVideoForCaptioning.from_towers(captioner_config(out, processor.end_token_id)).train()
    optimizers = muon_and_adamw(model, "connector.bert.encoder.", 4e-3, 2e-3)
    schedules = [warm_up_and_cosine(optimizer, steps) for optimizer in optimizers]
    rng = random.Random(f"checkpoint/captioner/{seed}")
    batches = pooled_batches(lambda: draw_captioned_still(rng), rng, batch, pool)

    def loss_on(pairs: list[tuple[np.ndarray, str]]) -> Tensor:
        pictures = normalised([picture for picture, _ in pairs]).unsqueeze(1)  # (B, 1, 3, H, W)
        loss = model(pixel_values=pictures, **processor.text([caption for _, caption in pairs])).loss
        assert loss is not None
        return loss

    for step in range(steps):
        loss = loss_on(next(batches))
        update(loss, model, optimizers, schedules)
        if step % 50 == 0 or step == steps - 1:
            log.info("captioner, step %d of %d: loss %.3f", step, steps, loss.item())
    model.eval()
    held_out = random.Random(f"checkpoint/captioner/held-out/{seed}")
    with torch.no_grad():
        held_out_loss = loss_on([draw_captioned_still(held_out) for _ in range(max(batch, 256))]).item()
    model.save_pretrained(out / "evlgen")
    processor.save_pretrained(out / "evlgen")
    return {"held_out_loss": held_out_loss}
