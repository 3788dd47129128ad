"""What a new connector starts with: soft tokens as long as words, if a run asks for it."""

import copy
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_connectors import OPTIONS, changes
from tiny_models import MakeConfig, pixels, tiny_config, write_towers
from toy_run import CONNECTOR_SIZES, Toy
from transformers import BertConfig, BertModel, GemmaConfig, GemmaForCausalLM, OPTConfig

from evlvideo.assembly.models import open_model, start_model
from evlvideo.assembly.new_connector import scale_to_words, warn_if_alike
from evlvideo.config.loading import config_of
from evlvideo.errors import UserError
from evlvideo.files import read_json, write_json
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors import CONNECTORS

every_connector = pytest.mark.parametrize("connector", CONNECTORS)


@pytest.fixture(scope="module")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> MakeConfig:
    return partial(tiny_config, write_towers(tmp_path_factory.mktemp("towers")))


def started(make_config: MakeConfig, connector: str) -> EvlVideoForCaptioning:
    """A new captioner with random weights, whose language model is wide.

    A narrow projection makes some directions of its input longer than others, and tokens have one in common.
    """
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "word_embed_proj_dim": 512, "ffn_dim": 8, "num_hidden_layers": 1}
    config = make_config(
        text_config=OPTConfig(**sizes, num_attention_heads=2, vocab_size=60),
        **(changes(connector) if connector in OPTIONS else {}),
    )
    return EvlVideoForCaptioning(config).eval()


def norms(model: EvlVideoForCaptioning) -> tuple[float, float]:
    """Mean norms of the soft tokens of real frames, and of words."""
    soft = model.encode(pixels(6, 1)).float()
    return soft.norm(dim=-1).mean().item(), model.language_model.get_input_embeddings().weight.norm(
        dim=-1
    ).mean().item()


@every_connector
def test_soft_tokens_are_as_long_as_words(make_config: MakeConfig, connector: str) -> None:
    model = started(make_config, connector)
    before, words = norms(model)
    scale_to_words(model)
    after, _ = norms(model)
    assert after == pytest.approx(words, rel=0.05)
    assert before != pytest.approx(words, rel=0.2), "or the test shows nothing"


def test_scale_is_the_same_everywhere_and_draws_nothing(make_config: MakeConfig) -> None:
    first = started(make_config, "tomeformer")
    second, state = copy.deepcopy(first), torch.get_rng_state()
    scale_to_words(first)
    torch.manual_seed(1)
    scale_to_words(second)
    assert torch.equal(first.language_projection.weight, second.language_projection.weight)
    torch.set_rng_state(state)
    scale_to_words(first)
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_language_projection_is_scaled(make_config: MakeConfig) -> None:
    model = started(make_config, "tomeformer")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    scale_to_words(model)
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {"language_projection.weight"}  # the bias is zero


def test_words_that_are_scaled_when_they_are_looked_up_are_as_long_as_they_are_read(make_config: MakeConfig) -> None:
    model = started(make_config, "mlp")
    sizes = {
        "hidden_size": 512,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "head_dim": 8,
    }
    model.language_model = GemmaForCausalLM(GemmaConfig(vocab_size=50, **sizes))
    scale_to_words(model)
    read = model.language_model.get_input_embeddings()(torch.arange(50)).norm(dim=-1).mean().item()
    assert norms(model)[0] == pytest.approx(read, rel=0.05)


@torch.no_grad()
def test_connector_that_makes_tokens_alike_is_told(make_config: MakeConfig, caplog: pytest.LogCaptureFixture) -> None:
    model, state = started(make_config, "tomeformer"), torch.get_rng_state()
    with caplog.at_level("INFO"):
        warn_if_alike(model, "some-bert")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "the connector, from some-bert, starts with" in caplog.text
    norm = model.connector.bert.encoder["layer"][-1].output.LayerNorm
    norm.weight.fill_(0.001)
    norm.bias.fill_(1.0)
    warn_if_alike(model, "some-bert")
    assert "starts from some-bert makes tokens nearly alike: it keeps 0% of its input's spread" in caplog.text
    assert "Start it from random weights (connector_init: null) or from another BERT." in caplog.text
    assert torch.equal(torch.get_rng_state(), state)


class TestRun:
    """A run that asks for it."""

    def new(self, toy: Toy, tmp_path: Path, **changes: Any) -> EvlVideoForCaptioning:
        """The start of a run with a new model between the toy's towers."""
        architecture = read_json(toy.checkpoint / "config.json")
        kept = ("vision_tower", "vision_overrides", "vision_weights", "vision_final_norm", "language_model", "merge_r")
        values = {name: architecture[name] for name in kept} | {"bert_config": CONNECTOR_SIZES}
        write_json(tmp_path / "architecture.yaml", values)
        run = {"init": "towers", "architecture": str(tmp_path / "architecture.yaml"), **changes}
        return start_model(toy.config(tmp_path, run=run), tower_dtype=torch.float32)[0]

    def test_new_model_is_scaled(self, toy: Toy, tmp_path: Path) -> None:
        torch.manual_seed(0)
        plain = self.new(toy, tmp_path)
        torch.manual_seed(0)
        scaled = self.new(toy, tmp_path, prompt_scale="words")
        ratio = scaled.language_projection.weight / plain.language_projection.weight
        torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
        assert norms(scaled)[0] == pytest.approx(norms(scaled)[1], rel=0.2)

    def test_new_connector_from_a_bert_is_looked_at(
        self, toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        BertModel(BertConfig(**CONNECTOR_SIZES)).save_pretrained(tmp_path / "bert")
        with caplog.at_level("INFO", logger="evlvideo"):
            self.new(toy, tmp_path, connector_init=str(tmp_path / "bert"))
        assert re.search(r"the connector, from .*bert, starts with \d+% of its input's spread between", caplog.text)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_new_connector_of_a_checkpoint_is_scaled(self, toy: Toy, tmp_path: Path, dtype: torch.dtype) -> None:
        changed = {"model": {"connector": "pixel_shuffle"}, "run": {"prompt_scale": "words"}}
        model, _ = start_model(toy.config(tmp_path, **changed), tower_dtype=dtype)
        soft, words = norms(model.float())
        assert soft == pytest.approx(words, rel=0.2)

    def test_connector_that_is_trained_already_is_refused(self, toy: Toy, tmp_path: Path) -> None:
        config = toy.config(tmp_path, run={"prompt_scale": "words"})
        with pytest.raises(UserError, match=r"prompt_scale is words, for a new connector, but .* has its tomeformer"):
            start_model(config, tower_dtype=torch.float32)

    def test_checkpoint_is_evaluated_as_it_was_saved(self, toy: Toy, tmp_path: Path) -> None:
        run = toy.finished_run(tmp_path / "run", connector="mlp")
        model, _ = open_model(run, toy.config(run, run={"prompt_scale": "words"}))
        saved, _ = open_model(run, toy.config(run))
        assert torch.equal(model.language_projection.weight, saved.language_projection.weight)

    def test_without_the_language_model_nothing_is_scaled(self, toy: Toy, tmp_path: Path) -> None:
        config = toy.config(tmp_path, model={"connector": "mlp"}, run={"prompt_scale": "words"})
        model, _ = start_model(config, tower_dtype=torch.float32, language_model=False)
        assert model.language_model.get_input_embeddings().weight.is_meta

    def test_another_scale_is_refused(self) -> None:
        with pytest.raises(UserError, match="prompt_scale is 'sentences'; allowed: words"):
            config_of(["prompt_scale=sentences"])
