"""What BLIP-2's first stage costs, against a pass with values."""

from io import StringIO
from pathlib import Path
from typing import cast

import pytest
import torch
from rich.console import Console
from tiny_architecture import real_model, tiny_config, workload

from evlvideo.config.data import DataConfig
from evlvideo.config.model import ModelConfig
from evlvideo.config.run import RunConfig
from evlvideo.config.training import RepresentationConfig, TrainingConfig
from evlvideo.errors import UserError
from evlvideo.estimate.costs import estimate_first_stage
from evlvideo.estimate.counting import count_multiply_adds
from evlvideo.estimate.records import Estimate
from evlvideo.estimate.run_costs import clip_costs, estimate_run
from evlvideo.estimate.table import estimate_table
from evlvideo.models.representation.model import RepresentationModel, TextSizes

ROOT = Path(__file__).parents[2]
CONFIG = tiny_config(connector="blip2", fusion="mean", connector_options={"num_queries": 5})
SIZES = TextSizes(vocabulary=40, max_tokens=7, width=8, pad_token_id=0, decoding_token_id=39)
ASKED = workload(num_frames=1, captions_per_clip=1, first_stage=True)


@pytest.fixture(scope="module")
def estimated() -> Estimate:
    return estimate_first_stage(CONFIG, ASKED, SIZES)


@pytest.fixture(scope="module")
def model() -> RepresentationModel:
    return RepresentationModel(real_model(CONFIG), SIZES).train()


def test_weights_are_those_of_the_model(estimated: Estimate, model: RepresentationModel) -> None:
    weights = dict(model.named_parameters())
    trained = [weight.numel() for weight in weights.values() if weight.requires_grad]
    assert estimated.trained.total == estimated.trained.connector == sum(trained)
    assert estimated.parameters.total == sum(weight.numel() for weight in weights.values())
    assert estimated.parameters.language_model == 0


def test_multiply_adds_are_those_of_a_pass_with_values(estimated: Estimate, model: RepresentationModel) -> None:
    ids = torch.randint(1, 39, (3, 7))
    features = torch.randn(3, 1, 17, 48)

    def trained() -> None:
        output = model(features=features, text_ids=ids, text_mask=torch.ones_like(ids), clips=torch.arange(3))
        (output.contrast_loss + output.matching_loss + output.generation_loss).backward()

    counted, _ = count_multiply_adds(trained)
    assert estimated.training_batch.connector == counted
    assert estimated.training_batch.language_model == estimated.captioning_clip.language_model == 0
    assert estimated.training_batch.vision_tower == 3 * estimated.captioning_clip.vision_tower > 0


def test_stored_features_spare_the_tower() -> None:
    asked = workload(num_frames=1, captions_per_clip=1, first_stage=True, cached_features=True)
    assert estimate_first_stage(CONFIG, asked, SIZES).training_batch.vision_tower == 0


def test_memory_has_activations(estimated: Estimate) -> None:
    assert estimated.memory.activations > 0
    assert estimated.memory.optimizer == 2 * 4 * estimated.trained.total


def test_the_table_speaks_of_no_captions(estimated: Estimate) -> None:
    console = Console(width=120, file=StringIO())
    console.print(estimate_table(estimated))
    text = cast("StringIO", console.file).getvalue()
    assert "encoding, a clip" in text
    assert "5 queries and a text of 7 tokens; there is no language model" in " ".join(text.split())
    assert "captioned" not in text


def test_a_run_is_estimated_without_its_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run = RunConfig(
        stage="representation",
        init="towers",
        architecture="configs/architectures/mini.yaml",
        model=ModelConfig(connector="blip2", connector_options={"num_queries": 17}),
        data=DataConfig(dataset="mini", num_frames=1),
        training=TrainingConfig(batch_size=4),
        representation=RepresentationConfig(text_tokens=12),
    )
    found = estimate_run(run)
    assert found.soft_tokens == 17
    assert clip_costs(run).training == found.training_clip.total
    run.model.connector = "linear"
    run.model.connector_options = None
    with pytest.raises(UserError, match=r"connector=linear; set model\.connector to blip2"):
        estimate_run(run)
