"""What a new connector starts with if it is fitted to clips."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_connectors import OPTIONS, changes
from tiny_models import MakeConfig, fill, tiny_config, write_towers
from toy_run import Toy, make_trainer
from transformers import OPTConfig

from evlvideo.assembly import fitted_start
from evlvideo.assembly.fitted_start import fit_to_clips, standardize, take_clips
from evlvideo.assembly.models import start_model
from evlvideo.config.loading import config_of, load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors import CONNECTORS
from evlvideo.training.run import train

WIDTH = 32
CAPTIONS = ("red square", "blue circle", "green line", "small dog", "big cat", "old car")


@pytest.fixture(scope="module")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> MakeConfig:
    return partial(tiny_config, write_towers(tmp_path_factory.mktemp("towers")))


def letters(text: str, add_special_tokens: bool) -> SimpleNamespace:
    """Tokenize to one token for each letter."""
    assert not add_special_tokens
    return SimpleNamespace(input_ids=[ord(letter) % 60 for letter in text.strip()])


def started(make_config: MakeConfig, connector: str = "tomeformer", **more: Any) -> EvlVideoForCaptioning:
    """A new captioner with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "word_embed_proj_dim": WIDTH, "ffn_dim": 8, "num_hidden_layers": 1}
    config = make_config(
        text_config=OPTConfig(**sizes, num_attention_heads=2, vocab_size=60),
        **(changes(connector) if connector in OPTIONS else {}),
        **more,
    )
    model = EvlVideoForCaptioning(config).eval()
    fill(model.vision_tower)
    return model


def batches(model: EvlVideoForCaptioning, frames: int = 2) -> list[dict[str, Any]]:
    """Six clips in three batches, of which one comes twice."""
    size = model.vision_tower.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    pictures = torch.randn(6, frames, 3, *size, generator=torch.Generator().manual_seed(1))
    order = [[0, 1], [2, 0, 3], [4, 5]]
    return [
        {
            "clip_ids": [f"clip{clip}" for clip in clips],
            "captions": [[CAPTIONS[clip], f"a {CAPTIONS[clip]}"] for clip in clips],
            "pixel_values": pictures[clips],
        }
        for clips in order
    ]


def fit(model: EvlVideoForCaptioning, clips: int = 6) -> None:
    fit_to_clips(model, letters, batches(model), clips)


def test_clips_that_differ_are_taken_and_no_batch_beyond(make_config: MakeConfig) -> None:
    model = started(make_config)
    read: list[int] = []

    def reading() -> Iterator[dict[str, Any]]:
        for number, batch in enumerate(batches(model)):
            read.append(number)
            yield batch

    found = take_clips(model, reading(), 4)
    assert [captions[0] for captions in found.captions] == list(CAPTIONS[:4])
    assert [len(features) for features in found.features] == [2, 2]
    assert read == [0, 1]


def test_channels_have_mean_zero_and_variance_one(make_config: MakeConfig) -> None:
    model = started(make_config)
    with torch.no_grad():
        model.ln_vision.weight.normal_()
        model.ln_vision.bias.normal_()
        clips = take_clips(model, batches(model), 6)
        standardize(model, clips)
        tokens = torch.cat([model.ln_vision(features).flatten(0, -2) for features in clips.features])
    torch.testing.assert_close(tokens.mean(dim=0), torch.zeros(tokens.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens.var(dim=0, correction=0), torch.ones(tokens.shape[1]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("connector", CONNECTORS)
def test_soft_prompts_of_a_clip_are_nearest_to_its_own_words(make_config: MakeConfig, connector: str) -> None:
    model = started(make_config, connector)
    fit(model)
    words = model.language_model.get_input_embeddings()
    caption_words = torch.stack([words(torch.tensor(letters(text, False).input_ids)).mean(dim=0) for text in CAPTIONS])
    pixels = torch.cat([batch["pixel_values"] for batch in batches(model)])[[0, 1, 2, 4, 5, 6]]
    with torch.no_grad():
        soft = model.encode(pixels).mean(dim=1)  # (6, E)
        near = torch.cosine_similarity(
            (soft - soft.mean(dim=0))[:, None], (caption_words - caption_words.mean(dim=0))[None], dim=-1
        )
    assert (near.argmax(dim=1) == torch.arange(6)).sum() >= 4
    assert soft.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_soft_tokens_are_as_long_as_words(make_config: MakeConfig, dtype: torch.dtype) -> None:
    model = started(make_config)
    for tower in (model.vision_tower, model.language_model):
        tower.to(dtype)
    fit(model)
    pixels = torch.cat([batch["pixel_values"] for batch in batches(model)])[[0, 1, 2, 4, 5, 6]]
    length = model.language_model.get_input_embeddings().weight.float().norm(dim=-1).mean()
    found = model.encode(pixels).float().norm(dim=-1).mean()
    torch.testing.assert_close(found, length, rtol=0.02, atol=0)


def test_features_fit_as_frames_do(make_config: MakeConfig) -> None:
    by_frames, by_features = started(make_config), started(make_config)
    fit(by_frames)
    given = batches(by_features)
    for batch in given:
        batch["features"] = by_features.vision_tower(batch.pop("pixel_values")).detach()
    fit_to_clips(by_features, letters, given, 6)
    torch.testing.assert_close(by_features.state_dict(), by_frames.state_dict())


def test_only_the_norm_and_the_projection_change(make_config: MakeConfig) -> None:
    model = started(make_config)
    before = copy.deepcopy(model.state_dict())
    fit(model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    around = ("ln_vision", "language_projection")
    assert changed == {f"{part}.{name}" for part in around for name in ("weight", "bias")}


def test_mode_and_random_state_stay(make_config: MakeConfig) -> None:
    model = started(make_config).train()
    state = torch.get_rng_state()
    fit(model)
    assert model.connector.training
    assert torch.equal(torch.get_rng_state(), state)


def test_single_clip_is_enough(make_config: MakeConfig) -> None:
    model = started(make_config)
    fit(model, clips=1)
    assert all(weight.isfinite().all() for weight in model.parameters())


class TestRun:
    """A run."""

    def config(self, toy: Toy, directory: Path, **changes: Any) -> RunConfig:
        """A run whose connector is new."""
        return toy.config(directory, model={"connector": "mlp"}, run={"fit_clips": 8, **changes})

    def test_new_connector_is_fitted_before_the_first_step(
        self, toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("INFO", logger="evlvideo"):
            train(self.config(toy, tmp_path / "run"))
        assert "Fitting the new connector: 8 clips" in caplog.text

    def test_resumed_run_is_not_fitted_again(self, toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        config = self.config(toy, tmp_path / "run")
        train(replace(config, training=replace(config.training, max_steps=2)))
        with caplog.at_level("INFO", logger="evlvideo"):
            train(config, resume=True)
        assert "Fitting" not in caplog.text

    def test_fitting_leaves_the_order_of_clips_and_dropout_alone(self, toy: Toy, tmp_path: Path) -> None:
        trainer = make_trainer(self.config(toy, tmp_path))
        first = next(iter(trainer.get_train_dataloader()))["clip_ids"]
        state = torch.get_rng_state()
        list(trainer.batches_before_training(8))
        assert torch.equal(torch.get_rng_state(), state)
        assert next(iter(trainer.get_train_dataloader()))["clip_ids"] == first

    def test_trained_connector_is_refused(self, toy: Toy, tmp_path: Path) -> None:
        config = toy.config(tmp_path, run={"fit_clips": 8})
        with pytest.raises(UserError, match=r"fit_clips is 8, for a new connector, but .* has its tomeformer"):
            start_model(config, tower_dtype=torch.float32)

    def test_trained_connector_takes_none(self, toy: Toy, tmp_path: Path) -> None:
        start_model(toy.config(tmp_path, run={"fit_clips": 0}), tower_dtype=torch.float32)


@pytest.mark.parametrize(
    ("given", "clips"),
    [
        ([], 0),
        (["init=towers", "architecture=a.yaml"], 512),
        (["init=towers", "architecture=a.yaml", "fit_clips=0"], 0),
    ],
)
def test_new_models_are_fitted_by_default(given: list[str], clips: int) -> None:
    assert config_of(given).clips_to_fit == clips


def test_published_pretraining_starts_from_random_weights() -> None:
    root = Path(fitted_start.__file__).parents[2]
    for path in sorted((root / "configs").glob("evlgen/pretrain_*.yaml")):
        assert load_config(path).clips_to_fit == 0, path
