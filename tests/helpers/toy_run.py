"""A toy checkpoint and a toy dataset for tests that train: real files, real decoder, nothing downloaded."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from evlvideo.assembly.clips import read_clips, references_of
from evlvideo.assembly.datasets import evaluation_dataset, training_dataset
from evlvideo.assembly.models import start_model
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.assembly.stages import trains_on_captions
from evlvideo.cli.app import main
from evlvideo.config.data import DataConfig
from evlvideo.config.generation import GenerationConfig
from evlvideo.config.loading import save_config
from evlvideo.config.model import ModelConfig
from evlvideo.config.run import RunConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.training import TrainingConfig
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.splits import read_split
from evlvideo.data.loading.collate import CaptionCollator
from evlvideo.experiments.parallel import train_quietly
from evlvideo.mini import build
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.training.arguments import training_arguments
from evlvideo.training.scst.rewards import CiderReward, Reward
from evlvideo.training.scst.trainer import SelfCriticalTrainer
from evlvideo.training.trainer import CaptionTrainer

ROOT = Path(__file__).parents[2]
SPLITS = {"train": 8, "validate": 4, "test": 6}
IMAGE_SIZE = 32
FRAMES = 3
VISION = "vit_tiny_patch16_224"
VISION_SIZES = {"img_size": IMAGE_SIZE, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}
CONNECTOR_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 20,
    "vocab_size": 1,
}
LANGUAGE_SIZES = {
    "hidden_size": 48,
    "word_embed_proj_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 96,
    "max_position_embeddings": 160,
    "dropout": 0.0,
}
LANGUAGE_STEPS = 150


@dataclass(frozen=True)
class Toy:
    """Files of the toy, and runs on it."""

    checkpoint: Path
    """An image-pretrained captioner, as far as its random connector goes."""
    data: Path
    """Clips in MSR-VTT's layout."""

    def config(self, output_dir: Path, init: Path | None = None, **sections: dict[str, Any]) -> RunConfig:
        """A run of six short steps, with changes by section; plain keys go under `run`."""
        config = RunConfig(
            init=str(init or self.checkpoint),
            output_dir=str(output_dir),
            model=ModelConfig(**sections.get("model", {})),
            data=DataConfig(dataset="mini", root=str(self.data), num_frames=FRAMES, horizontal_flip=0.0, num_workers=0),
            training=TrainingConfig(
                max_steps=6,
                batch_size=4,
                learning_rate=1e-2,
                min_learning_rate=1e-3,
                warmup_steps=2,
                warmup_learning_rate=1e-4,
                eval_steps=2,
                log_steps=1,
            ),
            generation=GenerationConfig(num_beams=2, max_new_tokens=10, min_new_tokens=1),
            scst=ScstConfig(num_samples=3, baseline="loo", max_new_tokens=10),
        )
        changed = {
            name: replace(getattr(config, name), **sections[name])
            for name in ("data", "training", "generation", "scst")
            if name in sections
        }
        return replace(config, **changed, **sections.get("run", {}))

    def clips(self, split: str) -> ClipTable:
        """The clips of a split."""
        return read_split("mini", split, self.data)

    def finished_run(self, directory: Path, open_gates: bool = False, **model: Any) -> Path:
        """A run's directory as training leaves it, around an untrained model."""
        config = self.config(directory, model=model)
        captioner, processor = start_model(config, tower_dtype=torch.float32)
        if open_gates:
            open_all_gates(captioner)
        captioner.save_pretrained(directory)
        processor.save_pretrained(directory)
        save_config(config, directory / "config.yaml")
        return directory


def make_toy(directory: Path) -> Toy:
    """Write the dataset, the towers and the checkpoint."""
    data = build.build_mini(directory / "data", progress=False, splits=SPLITS)
    captions = [caption.text for index in range(SPLITS["train"]) for caption in build.sample_clip("train", index)[1]]
    tokenizer = make_tokenizer(captions)
    processor = EvlVideoProcessor(tokenizer, image_size=IMAGE_SIZE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer.save_pretrained(directory / "language")
        make_language_model(processor, captions).save_pretrained(directory / "language")
        vision = directory / "vision.safetensors"
        save_file(timm.create_model(VISION, num_classes=0, **VISION_SIZES).state_dict(), vision)
        model = EvlVideoForCaptioning.from_towers(
            EvlVideoConfig(
                vision_tower=VISION,
                vision_overrides=VISION_SIZES,
                vision_weights=str(vision),
                vision_final_norm=True,
                image_mean=list(OPENAI_CLIP_MEAN),
                image_std=list(OPENAI_CLIP_STD),
                language_model=str(directory / "language"),
                bert_config=CONNECTOR_SIZES,
                merge_r=4,
                bos_token_id=processor.bos_token_id,
                end_token_id=processor.end_token_id,
                pad_token_id=processor.pad_token_id,
            )
        )
        for part in (model.connector.projection, model.language_projection):
            # Of a size that lets the language model see the difference between clips.
            nn.init.normal_(part.weight, std=part.in_features**-0.5)
    model.save_pretrained(directory / "checkpoint")
    processor.save_pretrained(directory / "checkpoint")
    return Toy(directory / "checkpoint", data)


def make_tokenizer(captions: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with OPT's special tokens, trained on captions."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{caption}\n" for caption in captions], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def make_language_model(processor: EvlVideoProcessor, captions: Sequence[str]) -> OPTForCausalLM:
    """An OPT that has read the captions for a moment, so that samples of it earn rewards."""
    sizes = {**LANGUAGE_SIZES, "vocab_size": len(processor.tokenizer)}
    model = OPTForCausalLM(OPTConfig(**sizes, bos_token_id=2, eos_token_id=processor.end_token_id, pad_token_id=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(LANGUAGE_STEPS):
        batch = processor.text([captions[(17 * step + place) % len(captions)] for place in range(16)])
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def open_all_gates(model: nn.Module) -> None:
    """Set contextualizers to what training might have made of them: open, attentive, with frame positions."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if name.endswith("alpha"):
                weight.fill_(1.0)
            elif "frame_positions" in name:
                weight.normal_()
            elif ("temporal_merge" in name or name.startswith("connector.contextualizer")) and weight.dim() == 2:
                weight.normal_(std=2 * weight.shape[1] ** -0.5)


def switch_dropout_off(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def make_trainer(config: RunConfig, reward: Reward | None = None) -> CaptionTrainer:
    """The trainer of a run, before it trains."""
    precision = resolve_precision(config.training.precision)
    model, processor = start_model(config, tower_dtype=DTYPES[precision])
    train_clips, validation_clips = read_clips(config.data, "train"), read_clips(config.data, "validate")
    common: dict[str, Any] = {
        "model": model,
        "args": training_arguments(config, precision),
        "processor": processor,
        "train_dataset": training_dataset(
            config, model, processor, {"train": train_clips}, per_caption=trains_on_captions(config)
        ),
        "eval_dataset": evaluation_dataset(config.data, model, processor, validation_clips, "validate"),
        "data_collator": CaptionCollator(processor, config.data.captions_per_clip),
        "learning_rates": config.training.learning_rates,
        "generation": config.generation,
        "validation_references": references_of(validation_clips),
    }
    if config.stage == "caption":
        return CaptionTrainer(**common)
    return SelfCriticalTrainer(reward=reward or CiderReward(references_of(train_clips)), scst=config.scst, **common)


def program(*arguments: str, setup: str = "") -> list[str]:
    """The command that runs `evlvideo` on the toy in a process of its own, after some lines of set-up."""
    path = [str(ROOT), str(ROOT / "tests/helpers")]
    code = f"import sys; sys.path[:0] = {path!r}\nimport toy_run\n{setup}\ntoy_run.run()"
    return [sys.executable, "-c", code, *arguments]


def environment(**more: str) -> dict[str, str]:
    """For :func:`program`, with the threads of this process, since sums depend on their number."""
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONWARNINGS": "ignore", **more}


def start(*arguments: str, setup: str = "", cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start :func:`program` in a process group of its own."""
    return subprocess.Popen(
        program(*arguments, setup=setup),
        env=environment(),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run() -> None:
    """`evlvideo`, with the toy's numbers of clips in the place of the mini dataset's."""
    build.SPLITS = SPLITS
    main()


def train_toy(config: RunConfig) -> Path:
    """A training on the toy in whatever process this is called."""
    build.SPLITS = SPLITS
    return train_quietly(config)
