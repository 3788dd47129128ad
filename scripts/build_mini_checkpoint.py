"""Train the mini checkpoint from scratch: a tiny language model, a tiny vision tower, and an EVLGen between them.

    python scripts/build_mini_checkpoint.py --out evlvideo/assets/mini

The three parts stand for what a user downloads: the language model has read captions but seen no image, the vision
tower has seen stills but read no caption, and the captioner was trained on stills with captions but has seen no video.
Scenes, stills and captions are generated during training; no file is read. Takes about 15 minutes on 2 CPU cores.
"""

import argparse
import logging
import time
from pathlib import Path

import torch
from mini_checkpoint.captioner import PACKAGE_ASSETS, train_captioner
from mini_checkpoint.common import rounded
from mini_checkpoint.language import train_language_model
from mini_checkpoint.vision import train_vision_tower

LANGUAGE_STEPS, VISION_STEPS, CAPTIONER_STEPS = 900, 900, 900
PARTS = ("language", "vision", "captioner")

log = logging.getLogger("mini_checkpoint")


def main(arguments: list[str] | None = None) -> None:
    """Train the requested parts, and log how long each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PACKAGE_ASSETS, help="folder of the checkpoint (%(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to train (all)")
    parser.add_argument("--language-steps", type=int, default=LANGUAGE_STEPS, help="steps (%(default)s)")
    parser.add_argument("--vision-steps", type=int, default=VISION_STEPS, help="steps (%(default)s)")
    parser.add_argument("--captioner-steps", type=int, default=CAPTIONER_STEPS, help="steps (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (%(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    train = {
        "language": lambda: train_language_model(options.out, options.language_steps, options.seed),
        "vision": lambda: train_vision_tower(options.out, options.vision_steps, options.seed),
        "captioner": lambda: train_captioner(options.out, options.captioner_steps, options.seed),
    }
    for part in PARTS:
        if part in options.parts:
            start = time.perf_counter()
            measured = train[part]()
            for path in options.out.rglob("*.safetensors"):
                path.chmod(0o644)  # safetensors writes files that only the owner can read
            log.info("%s: done in %.0f s, %s", part, time.perf_counter() - start, rounded(measured))


if __name__ == "__main__":
    main()
