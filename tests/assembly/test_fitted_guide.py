"""What guides pruning after it was fitted to clips."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_fitted_start import CAPTIONS, batches, letters, started
from tiny_models import MakeConfig, tiny_config, write_towers
from toy_run import Toy

from evlvideo.assembly.fitted_guide import fit_guide
from evlvideo.assembly.fitted_start import mean_word
from evlvideo.assembly.models import open_model
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.files import read_json
from evlvideo.inference.extract_features import extract_features
from evlvideo.models.blocks.pruning_guide import PruningGuide
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.results.run_directory import SUMMARY_NAME, run_config
from evlvideo.training.run import train

PRUNING = {"begin": [1], "keep": [0.5]}
GUIDES: dict[str, dict[str, Any]] = {
    "prompt": {"guide": "prompt", "prompt": "red square"},
    "predicted": {"guide": "predicted"},
    "draft": {"guide": "draft"},
}


@pytest.fixture(scope="module")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> MakeConfig:
    from functools import partial

    return partial(tiny_config, write_towers(tmp_path_factory.mktemp("towers")))


def fitted(make_config: MakeConfig, kind: str) -> tuple[EvlVideoForCaptioning, PruningGuide]:
    model = started(make_config, pruning=PRUNING | GUIDES[kind], fusion="mean_tokens")
    fit_guide(model, letters, batches(model))
    guide = model.vision_tower.pruning_guide
    assert guide is not None
    assert guide.is_fitted
    return model, guide


def least_squares(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression by its textbook formula, in float64."""
    x, y = x.double(), y.double()
    centered = x - x.mean(dim=0)
    covariance = centered.T @ centered / len(x)
    penalty = 0.3 * covariance.diagonal().mean() * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(covariance + penalty, centered.T @ (y - y.mean(dim=0)) / len(x)).T
    return weight, y.mean(dim=0) - weight @ x.mean(dim=0)


def texts(model: EvlVideoForCaptioning) -> torch.Tensor:
    words = model.language_model.get_input_embeddings()
    return torch.stack([mean_word(words, letters, [caption, f"a {caption}"]) for caption in CAPTIONS])


def class_tokens(model: EvlVideoForCaptioning) -> torch.Tensor:
    """Of the six clips in order, `(C, T, J + 1, D)`."""
    given = batches(model)
    pictures = torch.cat([given[0]["pixel_values"], given[1]["pixel_values"][[0, 2]], given[2]["pixel_values"]])
    return model.vision_tower.class_tokens(pictures)


@torch.no_grad()
def test_a_text_becomes_the_class_token_of_clips_with_such_captions(make_config: MakeConfig) -> None:
    model, guide = fitted(make_config, "draft")
    weight, bias = least_squares(texts(model), class_tokens(model)[:, :, -1].mean(dim=1))
    torch.testing.assert_close(guide.of_texts(texts(model)), (texts(model).double() @ weight.T + bias).float())


@torch.no_grad()
def test_a_prompt_is_one_such_text(make_config: MakeConfig) -> None:
    model, guide = fitted(make_config, "prompt")
    _, drafting = fitted(make_config, "draft")
    prompt = mean_word(model.language_model.get_input_embeddings(), letters, ["red square"])
    torch.testing.assert_close(guide(0, torch.zeros(2, 48)), drafting.of_texts(prompt).expand(2, -1))


@torch.no_grad()
def test_a_text_is_predicted_from_the_class_token_before_the_prune(make_config: MakeConfig) -> None:
    model, guide = fitted(make_config, "predicted")
    _, drafting = fitted(make_config, "draft")
    before = class_tokens(model)[:, :, 0]  # (C, T, D)
    targets = drafting.of_texts(texts(model)).repeat_interleave(before.shape[1], dim=0)
    weight, bias = least_squares(before.flatten(0, 1), targets)
    expected = (before.flatten(0, 1).double() @ weight.T + bias).float()
    torch.testing.assert_close(guide(0, before.flatten(0, 1)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", GUIDES)
def test_a_run_fits_its_guide_trains_resumes_and_is_evaluated(toy: Toy, tmp_path: Path, kind: str) -> None:
    config = toy.config(tmp_path / "run", model={"pruning": PRUNING | GUIDES[kind], "fusion": "mean_tokens"})
    run = train(config)
    model, _ = open_model(run, run_config(run))
    guide = model.vision_tower.pruning_guide
    assert guide is not None
    assert guide.is_fitted
    resumed, _ = open_model(run / "checkpoints" / "checkpoint-2", config)
    assert resumed.vision_tower.pruning_guide is not None
    assert torch.equal(resumed.vision_tower.pruning_guide.bias, guide.bias)
    result = evaluate(run, metrics=("cider",))
    trained = "class" if kind == "draft" else kind
    assert result.pruning == {**PRUNING, **GUIDES[kind], "guide_in_training": trained}


def test_training_with_drafts_is_training_by_the_class_token(toy: Toy, tmp_path: Path) -> None:
    states = []
    for name, more in (("class", {}), ("draft", {"guide": "draft"})):
        config = toy.config(tmp_path / name, model={"pruning": PRUNING | more, "fusion": "mean_tokens"})
        model, _ = open_model(train(config) / "checkpoints" / "checkpoint-6", config)
        states.append({key: value for key, value in model.named_parameters() if value.requires_grad})
    first, second = states
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_checkpoint_without_a_guide_is_not_pruned_by_one(toy: Toy, tmp_path: Path) -> None:
    run = toy.finished_run(tmp_path / "run", fusion="mean_tokens")
    config = run_config(run)
    config.model.pruning = PRUNING | GUIDES["predicted"]
    with pytest.raises(UserError, match=r"pruning.guide is predicted, which was not fitted to clips yet.*train a run"):
        evaluate(run, config=config, out=tmp_path / "out")


def with_features(toy: Toy, directory: Path, guide: dict[str, Any]) -> RunConfig:
    model = {"pruning": PRUNING | guide, "fusion": "mean_tokens"}
    features = {"features": str(directory / "features"), "augment": False, "train_sampling": "uniform"}
    return toy.config(directory / "run", model=model, data=features)


def test_drafts_and_stored_features_exclude_each_other(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.pruning.guide=draft prunes by a draft of each clip's caption"):
        with_features(toy, tmp_path, GUIDES["draft"])


def test_features_wait_for_the_fit(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not fitted to clips yet, and stored features would depend on it"):
        extract_features(with_features(toy, tmp_path, GUIDES["predicted"]), ["train"])


def test_features_of_a_guide_are_those_of_its_fit(toy: Toy, tmp_path: Path) -> None:
    model = {"pruning": PRUNING | GUIDES["prompt"], "fusion": "mean_tokens"}
    run = train(toy.config(tmp_path / "first", model=model))
    config = with_features(toy, tmp_path, GUIDES["prompt"])
    config.init = str(run)
    extract_features(config, ["train", "validate"])
    keys = [read_json(path)["pruning"] for path in tmp_path.rglob("key.json")]
    assert len(keys) == 2
    assert all('"fitted": ' in key for key in keys)
    train(config)


def test_a_drafting_captioner_is_trained_by_rewards(toy: Toy, tmp_path: Path) -> None:
    model = {"pruning": PRUNING | GUIDES["draft"], "fusion": "mean_tokens"}
    started = train(toy.config(tmp_path / "first", model=model, training={"max_steps": 2}))
    steps = {"max_steps": 2, "gradient_accumulation_steps": 2}
    run = train(toy.config(tmp_path / "scst", init=started, training=steps, run={"stage": "scst"}))
    assert read_json(run / SUMMARY_NAME)["steps"] == 2
