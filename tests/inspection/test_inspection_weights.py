"""What weights tell without data, against sums written out."""

import math

import pytest
import torch
from tiny_architecture import CONNECTORS, VARIANTS, costs_of, real_model, tiny_config

from evlvideo.inspection.records import Gate, WeightsSeen
from evlvideo.inspection.weights import weights_of
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.towers import TOWERS

LORA = {"lora_r": 2, "lora_alpha": 6}


def look(model: EvlVideoForCaptioning) -> WeightsSeen:
    return weights_of(model, TOWERS)


@pytest.mark.parametrize("variant", [*VARIANTS, *CONNECTORS])
def test_sizes_are_those_of_the_estimate(variant: str) -> None:
    found = look(real_model(tiny_config(**(VARIANTS | CONNECTORS)[variant])))
    expected = costs_of(variant)
    for name, of_estimate in (
        ("parameters", expected.parameters),
        ("trained", expected.trained),
        ("saved", expected.saved),
    ):
        assert sum(getattr(part, name) for part in found.parts) == of_estimate.total


def test_a_checkpoint_that_holds_its_towers_saves_all() -> None:
    found = weights_of(real_model(tiny_config()), ())
    assert all(part.saved == part.parameters for part in found.parts)


def test_the_root_mean_square_is_over_all_values_of_a_part() -> None:
    model = real_model(tiny_config())
    found = {part.name: part for part in look(model).parts}
    values = torch.cat([weight.flatten() for weight in model.language_model.parameters()])
    assert found["language_model"].rms == pytest.approx(float(values.double().square().mean().sqrt()), rel=1e-5)


def test_parts_name_the_types_that_they_compute_in() -> None:
    model = real_model(tiny_config(**LORA))
    model.language_model.get_input_embeddings().weight.data = model.language_model.get_input_embeddings().weight.half()
    found = {part.name: part.dtype for part in look(model).parts}
    assert found["lora"] == found["vision_tower"] == "float32"
    assert found["language_model"] == "float16 and float32"


def test_values_that_are_not_finite_are_counted_where_they_are() -> None:
    model = real_model(tiny_config())
    model.connector.projection.weight.data[:2, 0] = torch.tensor([torch.nan, torch.inf])
    counted = {part.name: part.not_finite for part in look(model).parts}
    assert sum(counted.values()) == counted["projections"] == 2


def test_words_are_measured_by_a_row() -> None:
    model = real_model(tiny_config())
    words = model.language_model.get_input_embeddings().weight
    assert look(model).words_norm == pytest.approx(float(words.norm(dim=1).mean()))


def test_norms_are_those_around_the_connector_and_of_learned_positions() -> None:
    model = real_model(tiny_config())
    norms = {norm.name: norm for norm in look(model).norms}
    assert set(norms) == {
        "ln_vision.weight",
        "ln_vision.bias",
        "connector.projection.weight",
        "connector.projection.bias",
        "language_projection.weight",
        "language_projection.bias",
        "connector.bert.embeddings.position_embeddings.weight",
    }
    assert norms["ln_vision.weight"].norm == pytest.approx(math.sqrt(48))
    assert norms["ln_vision.weight"].row is None
    positions = model.connector.bert.embeddings.position_embeddings.weight
    found = norms["connector.bert.embeddings.position_embeddings.weight"]
    assert (found.shape, found.row) == ((20, 40), pytest.approx(float(positions.detach().norm(dim=1).mean())))


def test_queries_of_any_connector_are_among_the_norms() -> None:
    names = {norm.name for norm in look(real_model(tiny_config(**CONNECTORS["video_llama"]))).norms}
    assert names >= {"connector.image_queries", "connector.video_queries", "connector.frame_positions"}


def test_gates_are_read_with_their_frame_positions() -> None:
    model = real_model(tiny_config(**VARIANTS["in_tower"]))
    block = model.vision_tower.vit.blocks[1].temporal_merge
    block.alpha.data.fill_(0.25)
    block.frame_positions.weight.data[:] = 1.0
    first, second, _ = look(model).gates
    assert first == Gate("vision_tower.vit.blocks.0.temporal_merge", 0.0, 0.0)
    assert second == Gate("vision_tower.vit.blocks.1.temporal_merge", 0.25, pytest.approx(math.sqrt(48)))
    assert first.is_closed and not second.is_closed


def test_a_gate_without_positions_is_closed_at_zero() -> None:
    assert [gate.is_closed for gate in look(real_model(tiny_config(**VARIANTS["merged"]))).gates] == [True]


def test_lora_is_measured_against_the_weights_that_it_changes() -> None:
    model = real_model(tiny_config(**LORA))
    layers = [module for module in model.language_model.modules() if hasattr(module, "lora_A")]
    changes = []
    for place, layer in enumerate(layers):
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        up.data.normal_(std=0.1 * (place + 1), generator=torch.Generator().manual_seed(place))
        changes.append(float((3 * up @ down).detach().norm() / layer.base_layer.weight.detach().norm()))
    found = look(model).lora
    assert found is not None
    assert found.layers == len(layers) == 4
    assert found.largest == pytest.approx(max(changes), rel=1e-5)
    assert found.median == pytest.approx(sum(sorted(changes)[1:3]) / 2, rel=1e-5)


def test_an_untrained_lora_changes_nothing() -> None:
    found = look(real_model(tiny_config(**LORA))).lora
    assert found is not None and found.largest == 0.0


def test_without_lora_there_is_nothing_to_measure() -> None:
    assert look(real_model(tiny_config())).lora is None
