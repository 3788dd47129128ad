"""What connectors can be told, and what of it is refused."""

from dataclasses import asdict
from typing import Any

import pytest

from evlvideo.config.loading import config_of
from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors import CONNECTORS, connector_class
from evlvideo.models.connectors.base import make_options, problems_of_options


def test_runs_may_name_every_connector() -> None:
    with pytest.raises(UserError, match=f"allowed: {', '.join(CONNECTORS)}$"):
        config_of(["model.connector=other"])


@pytest.mark.parametrize("connector", CONNECTORS)
def test_defaults_are_accepted(connector: str) -> None:
    found = connector_class(connector)
    given = asdict(make_options(found, {}))
    assert problems_of_options(found, connector, given) == []


def test_published_numbers_are_the_defaults() -> None:
    assert make_options(connector_class("blip2"), {}).num_queries == 32
    llama, chat = make_options(connector_class("video_llama"), {}), make_options(connector_class("videochat"), {})
    assert (llama.num_queries, llama.video_queries, llama.video_layers, llama.train_qformer) == (32, 32, 2, False)
    assert (chat.num_queries, chat.extra_queries, chat.train_qformer) == (32, 64, False)
    assert (chat.relation_blocks, chat.relation_dropout) == (8, 0.5)
    assert make_options(connector_class("video_coca"), {}).num_queries == 256
    mlp = make_options(connector_class("mlp"), {})
    assert (mlp.hidden_dim, mlp.keep_class_token) == (None, False)
    assert make_options(connector_class("pixel_shuffle"), {}).scale_factor == 2


@pytest.mark.parametrize(
    ("connector", "given", "message"),
    [
        ("blip2", {"queries": 3}, "queries is not an option of connector=blip2; it has num_queries, cross_attention_"),
        ("linear", {"side": 3}, "side is not an option of connector=linear; it has none"),
        ("blip2", {"num_queries": 0}, "num_queries is 0; it must be a whole number, at least 1"),
        ("blip2", {"num_queries": 2.5}, "num_queries is 2.5; it must be a whole number"),
        ("blip2", {"num_queries": True}, "num_queries is True; it must be a whole number"),
        ("video_llama", {"train_qformer": "yes"}, "train_qformer is 'yes'; it must be true or false"),
        ("mlp", {"hidden_dim": 0}, "hidden_dim is 0; it must be a whole number, at least 1, or null"),
        ("mlp", {"hidden_dim": False}, "hidden_dim is False; it must be a whole number, at least 1, or null"),
        ("mlp", {"keep_class_token": None}, "keep_class_token is None; it must be true or false"),
        ("pixel_shuffle", {"scale_factor": 0}, "scale_factor is 0; it must be a whole number, at least 1"),
        ("videochat", {"relation_dropout": "much"}, "relation_dropout is 'much'; it must be a number"),
        ("videochat", {"relation_mlp_ratio": -1}, "relation_mlp_ratio is -1; it must be a number, at least 0"),
    ],
)
def test_wrong_option_is_a_problem(connector: str, given: dict[str, Any], message: str) -> None:
    (problem,) = problems_of_options(connector_class(connector), connector, given)
    assert message in problem


def test_a_dropout_of_everything_is_a_problem() -> None:
    with pytest.raises(UserError, match=r"relation_dropout is 1\.0; it must be below 1"):
        EvlVideoConfig(connector="videochat", connector_options={"relation_dropout": 1.0})


def test_all_problems_of_options_are_listed() -> None:
    assert (
        len(
            problems_of_options(
                connector_class("video_llama"), "video_llama", {"queries": 3, "video_layers": 0, "train_qformer": 1}
            )
        )
        == 3
    )
