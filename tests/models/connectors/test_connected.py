"""Captioners with every connector: what comes out, what is trained, what a step changes, what is kept."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_connectors import NUM_TOKENS, OPTIONS, PER_FRAME, TOKENS, changes
from tiny_models import MakeConfig, MakeModel, every_device, half_towers, pixels, shuffled, text_batch

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.weights import read_weights

every_connector = pytest.mark.parametrize("connector", OPTIONS)
TRAINED = {
    "blip2": r"ln_vision\..*|connector\.(queries|qformer\..*)",
    "video_llama": r"connector\.(frame_positions|video_queries|video_qformer\..*)",
    "videochat": r"ln_vision\..*|connector\.extra_queries|vision_tower\.video_relations\..*",
    "video_coca": r"ln_vision\..*|connector\..*",
    "mlp": r"ln_vision\..*|connector\.projection\..*",
    "pixel_shuffle": r"ln_vision\..*",
    "linear": r"ln_vision\..*",
    "average_pool": r"ln_vision\..*",
}
"""With the language projection, all that takes gradients; the names of the rest of the connector follow."""
FROZEN = {
    "video_llama": r"ln_vision\..*|connector\.image_(queries|qformer\..*)",
    "videochat": r"connector\.(queries|qformer\..*)",
}
BEHIND_ZERO = re.compile(
    # What reaches the video token through outputs of zero only, and what is multiplied by the token, which is zero.
    r"vision_tower\.video_relations\.aggregators\.\d\."
    r"(positions|ln_frames|ln_token|ln_mlp|fc1|fc2\.weight|attention\.in_proj_(weight|bias))(\..*)?"
)


def names(model: EvlVideoForCaptioning, *, trained: bool) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad == trained}


def of_towers(name: str) -> bool:
    return name.startswith(("vision_tower.vit.", "language_model."))


@every_connector
@pytest.mark.parametrize("num_frames", [1, 3])
def test_soft_prompt_has_the_tokens_that_are_told(make_model: MakeModel, connector: str, num_frames: int) -> None:
    form = {"fusion": "concat"} if connector in PER_FRAME else {}
    model = make_model(**changes(connector, **form))
    prompt = model.encode(pixels(2, num_frames))
    frames = num_frames if connector in PER_FRAME else 1
    assert prompt.shape == (2, frames * TOKENS[connector], 40)
    assert model.connector.num_output_tokens(NUM_TOKENS) == TOKENS[connector]


@pytest.mark.parametrize("connector", PER_FRAME)
def test_frames_are_averaged_after_the_connector_or_before_it(make_model: MakeModel, connector: str) -> None:
    before, after, concatenated = (
        make_model(**changes(connector, fusion=fusion)) for fusion in ("mean", "mean_tokens", "concat")
    )
    features = before.vision_tower(pixels(2, 3))
    mean = features.mean(dim=1, keepdim=True)
    torch.testing.assert_close(before.features_to_prompt(features), concatenated.features_to_prompt(mean))
    each = concatenated.features_to_prompt(features).unflatten(1, (3, -1))
    torch.testing.assert_close(after.features_to_prompt(features), each.mean(dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("connector", "ordered"), [("video_llama", True), ("videochat", True), ("video_coca", False), ("blip2", False)]
)
def test_only_what_knows_the_order_of_frames_sees_it(make_model: MakeModel, connector: str, ordered: bool) -> None:
    model = make_model(**changes(connector, **({"fusion": "mean_tokens"} if connector == "blip2" else {})))
    if connector == "videochat":
        open_relations(model)
    given = pixels(1, 4)
    same = torch.allclose(model.encode(given), model.encode(shuffled(given)), atol=1e-4)
    assert same != ordered


@torch.no_grad()
def open_relations(model: EvlVideoForCaptioning) -> None:
    """Set outputs that start at zero to what training might have made of them."""
    torch.manual_seed(0)
    for aggregator in model.vision_tower.video_relations.aggregators:
        for output in (aggregator.attention.out_proj, aggregator.fc2):
            torch.nn.init.normal_(output.weight, std=0.5)


@every_connector
def test_exactly_what_is_published_to_be_trained_is_trained(make_model: MakeModel, connector: str) -> None:
    model = make_model(**changes(connector))
    pattern = re.compile(rf"({TRAINED[connector]}|language_projection\.(weight|bias))")
    parameters = {name for name, _ in model.named_parameters()}
    assert names(model, trained=True) == {name for name in parameters if pattern.fullmatch(name)}
    frozen = {name for name in names(model, trained=False) if not of_towers(name)}
    assert frozen == {name for name in parameters if re.fullmatch(FROZEN.get(connector, "(?!)"), name)}
    assert bool(frozen) == (connector in FROZEN)


@pytest.mark.parametrize("connector", FROZEN)
def test_the_whole_connector_is_trained_where_it_is_asked_for(make_model: MakeModel, connector: str) -> None:
    model = make_model(**changes(connector, connector_options={"train_qformer": True}))
    assert all(of_towers(name) for name in names(model, trained=False))
    assert all(module.training for module in model.train().connector.modules())


def take_a_step(model: EvlVideoForCaptioning) -> set[str]:
    """Train on one batch; the names of what changed."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0)
    torch.manual_seed(0)
    model(pixels(2, 3), **text_batch()).loss.backward()
    optimizer.step()
    return {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}


@every_connector
def test_first_step_changes_all_that_is_trained_but_what_is_behind_outputs_of_zero(
    make_model: MakeModel, connector: str
) -> None:
    model = make_model(**changes(connector))
    trained = names(model, trained=True)
    closed = {name for name in trained if BEHIND_ZERO.fullmatch(name)}
    assert bool(closed) == (connector == "videochat")
    # A key's bias adds the same to all that a query compares, which changes nothing.
    no_effect = re.compile(r".*attention\.attention\.key\.bias")
    assert {name for name in trained - closed - take_a_step(model) if not no_effect.fullmatch(name)} == set()


def test_step_with_open_relations_changes_them_all(make_model: MakeModel) -> None:
    model = make_model(**changes("videochat"))
    open_relations(model)
    torch.nn.init.normal_(model.vision_tower.video_relations.token)  # a token of zero is normed to zero
    assert names(model, trained=True) == take_a_step(model)


@every_connector
def test_a_step_changes_nothing_that_is_frozen(make_model: MakeModel, connector: str) -> None:
    model = make_model(**changes(connector))
    assert take_a_step(model) <= names(model, trained=True)


@every_connector
def test_frozen_parts_have_no_dropout_and_trained_ones_have(make_model: MakeModel, connector: str) -> None:
    model = make_model(**changes(connector)).train()
    assert not [module for module in model.vision_tower.vit.modules() if module.training]
    if connector in FROZEN:
        frozen = model.connector.image_qformer if connector == "video_llama" else model.connector.qformer
        assert not [module for module in frozen.modules() if module.training]
    if connector == "video_llama":
        assert all(module.training for module in model.connector.video_qformer.modules())
    if connector == "videochat":
        assert all(module.training for module in model.vision_tower.video_relations.modules())
    assert not [module for module in model.eval().modules() if module.training]


@every_connector
def test_checkpoint_holds_what_is_no_tower_and_comes_back(
    make_model: MakeModel, connector: str, tmp_path: Path
) -> None:
    model = make_model(**changes(connector))
    model.save_pretrained(tmp_path)
    own = {name for name, _ in model.named_parameters() if not of_towers(name)}
    assert read_weights(tmp_path / "model.safetensors").keys() == own
    loaded = EvlVideoForCaptioning.from_pretrained(tmp_path)
    assert loaded.config.connector_options == model.config.connector_options
    assert names(loaded, trained=True) == names(model, trained=True)
    assert torch.equal(loaded.encode(pixels(1, 2)), model.encode(pixels(1, 2)))


@every_connector
def test_clips_are_captioned(make_model: MakeModel, connector: str) -> None:
    captions = make_model(**changes(connector)).generate(pixels(2, 2), num_beams=2, max_new_tokens=4)
    assert captions.shape[0] == 2 and 1 <= captions.shape[1] <= 4


def test_relations_begin_with_outputs_of_zero(make_config: MakeConfig) -> None:
    model = EvlVideoForCaptioning.from_towers(make_config(**changes("videochat")))
    tokens = model.vision_tower(pixels(1, 2))
    assert torch.equal(tokens[:, :, -1], torch.zeros(1, 2, 48))


def test_features_cannot_stand_for_frames_that_relations_read(make_model: MakeModel) -> None:
    model = make_model(**changes("videochat"))
    with pytest.raises(UserError, match="give it frames"):
        model.encode(features=torch.zeros(1, 2, NUM_TOKENS, 48))


@pytest.mark.parametrize("connector", sorted(OPTIONS.keys() - {"videochat"}))
def test_features_stand_for_frames(make_model: MakeModel, connector: str) -> None:
    model = make_model(**changes(connector))
    features = model.vision_tower(pixels(2, 3))
    assert torch.equal(model.encode(features=features), model.encode(pixels(2, 3)))


@pytest.mark.parametrize("connector", ["blip2", "video_llama", "videochat", "video_coca"])
def test_contextualizers_in_the_tower_go_with_every_connector(make_model: MakeModel, connector: str) -> None:
    model = make_model(**changes(connector, contextualizer="in_tower"))
    changed = take_a_step(model)
    assert {name for name in changed if name.endswith("temporal_merge.alpha")} == {
        f"vision_tower.vit.blocks.{block}.temporal_merge.alpha" for block in range(2)
    }


@every_connector
def test_whole_model_in_half_precision_stays_near(make_model: MakeModel, connector: str) -> None:
    model = make_model(**changes(connector))
    expected = model.encode(pixels(1, 2))
    half = model.to(torch.bfloat16).encode(pixels(1, 2).bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).norm() < 0.1 * expected.norm()


@every_device
@every_connector
def test_training_with_towers_in_half_precision_stays_near(make_model: MakeModel, connector: str, device: str) -> None:
    model = make_model(**changes(connector)).to(device)
    batch = {name: value.to(device) for name, value in text_batch().items()}
    given = pixels(2, 3).to(device)
    expected = model(given, **batch).loss
    loss = half_towers(model)(given, **batch).loss
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=0.05, rtol=0.05)
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


class TestAnotherConnector:
    """A checkpoint opened with a connector that it does not have."""

    def opened(self, model: EvlVideoForCaptioning, directory: Path, config: Any) -> EvlVideoForCaptioning:
        model.save_pretrained(directory)
        return EvlVideoForCaptioning.from_pretrained(directory, config=config)

    @every_connector
    def test_is_new_and_the_log_says_so(
        self, make_model: MakeModel, make_config: MakeConfig, connector: str, tmp_path: Path, caplog: Any
    ) -> None:
        start = make_model(contextualizer="merged", fusion="concat")
        model = self.opened(start, tmp_path, make_config(**changes(connector), text_config=start.config.text_config))
        assert torch.equal(model.ln_vision.weight, start.ln_vision.weight)
        kept = model.language_projection.weight.shape == start.language_projection.weight.shape
        assert kept == (connector not in ("pixel_shuffle", "linear", "average_pool"))
        if kept:
            assert torch.equal(model.language_projection.weight, start.language_projection.weight)
        assert f"weights are left out, and connector={connector} starts at random" in caplog.text

    def test_back_to_a_tomeformer(self, make_model: MakeModel, make_config: MakeConfig, tmp_path: Path) -> None:
        start = make_model(**changes("videochat"))
        model = self.opened(start, tmp_path, make_config(text_config=start.config.text_config))
        assert model.vision_tower.video_relations is None
        assert model.encode(pixels(1, 2)).shape == (1, 11, 40)

    def test_weights_that_no_change_explains_are_refused_all_the_same(
        self, make_model: MakeModel, make_config: MakeConfig, tmp_path: Path
    ) -> None:
        start = make_model(**changes("blip2"))
        config = make_config(
            **changes("blip2", connector_options={"num_queries": 7}), text_config=start.config.text_config
        )
        with pytest.raises(UserError, match=r"connector\.queries is \(1, 5, 40\), the model's \(1, 7, 40\)"):
            self.opened(start, tmp_path, config)
