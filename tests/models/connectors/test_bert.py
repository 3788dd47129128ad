"""Connectors that start from a BERT."""

from pathlib import Path

import pytest
import torch
from tiny_connectors import BERT, TOWER
from tiny_models import chirp, fill
from transformers import BertConfig, BertModel

from evlvideo.errors import UserError
from evlvideo.models.connectors.base import NoOptions
from evlvideo.models.connectors.blip2 import Blip2, Blip2Options
from evlvideo.models.connectors.linear import EveryToken


def make_blip2() -> Blip2:
    return fill(Blip2(BERT, TOWER, Blip2Options(num_queries=5))).eval()


@pytest.fixture
def bert(tmp_path: Path) -> BertModel:
    model = fill(BertModel(BERT, add_pooling_layer=False)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.5)
    model.save_pretrained(tmp_path / "bert")
    return model


def test_layers_of_a_qformer_without_cross_attention_are_berts(bert: BertModel, tmp_path: Path) -> None:
    connector, x = make_blip2(), chirp(2, 5, 40)
    connector.load_bert(str(tmp_path / "bert"))
    layer = connector.qformer.encoder.layer[1]
    assert not layer.has_cross_attention
    torch.testing.assert_close(layer(x, query_length=5), bert.encoder.layer[1](x))
    torch.testing.assert_close(connector.qformer.layernorm(x), bert.embeddings.LayerNorm(x))


def test_cross_attention_and_queries_stay_as_they_are(bert: BertModel, tmp_path: Path) -> None:
    connector, before = make_blip2(), make_blip2().state_dict()
    connector.load_bert(str(tmp_path / "bert"))
    same = {name for name, value in connector.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if ".crossattention." in name or name == "queries"}


def test_another_size_is_a_user_error(tmp_path: Path) -> None:
    BertModel(BertConfig(hidden_size=20, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match=r"(?s)does not fit the connector:.*encoder\.layer\.1\."):
        make_blip2().load_bert(str(tmp_path / "bert"))


def test_a_connector_that_is_no_bert_is_a_user_error() -> None:
    with pytest.raises(UserError, match="EveryToken does not start from one; set connector_init to null"):
        EveryToken(BERT, TOWER, NoOptions()).load_bert("bert-base-uncased")
