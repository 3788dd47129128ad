"""Published BLIPs and ALBEFs in their own files, and what new models start from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_vlp import CAPTIONS, tiny_host
from transformers import BertConfig, BertModel
from vlp_case import MATCHING, VlpCase, cases_of

from evlvideo.errors import UserError
from evlvideo.models.vlp.hosts.files import open_published

every_case = pytest.mark.parametrize("directory", cases_of(MATCHING), ids=lambda path: path.name)


def pth_of(case: VlpCase, path: Path) -> Path:
    """Weights as published, with a queue and a momentum copy beside them."""
    weights = load_file(case.directory / "model.safetensors")
    more = {"image_queue": torch.zeros(2, 3), "queue_ptr": torch.zeros(1), "vision_proj_m.bias": torch.zeros(2)}
    torch.save({"model": {**weights, **more}, "epoch": 3}, path)
    return path


@every_case
def test_a_published_file_opens(directory: Path, tmp_path: Path) -> None:
    case = VlpCase(directory)
    expected = case.host_model()
    found = open_published(pth_of(case, tmp_path / "weights.pth"), case.host.lower(), expected.config)
    weights = found.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.state_dict().items())


@every_case
def test_a_published_file_of_other_sizes_or_another_host_is_refused(directory: Path, tmp_path: Path) -> None:
    case, path = VlpCase(directory), tmp_path / "weights.pth"
    config: Any = case.host_model().config
    pth_of(case, path)
    config.vision_config.num_hidden_layers += 1
    with pytest.raises(UserError, match="which is no"):
        open_published(path, case.host.lower(), config)
    config.vision_config.num_hidden_layers -= 1
    config.image_text_hidden_size += 1
    with pytest.raises(UserError, match="does not fit the sizes"):
        open_published(path, case.host.lower(), config)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        open_published(path, case.host.lower(), config)


@pytest.mark.parametrize("host", ["blip", "albef"])
def test_text_layers_start_from_a_bert(host: str, tmp_path: Path) -> None:
    _, tokenizer = tiny_host(host)
    words = len(tokenizer) - (2 if host == "blip" else 0)
    config = BertConfig(
        vocab_size=words, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128
    )
    bert = BertModel(config).eval()
    bert.save_pretrained(tmp_path)
    model, _ = tiny_host(host, text_init=str(tmp_path))
    text = tokenizer(list(CAPTIONS), padding=True, return_tensors="pt", return_token_type_ids=False)
    layers = 3 if host == "blip" else 1
    with torch.no_grad():
        expected = bert(**text, output_hidden_states=True).hidden_states[layers]
        found = model.text_states(**text)
    mask = text["attention_mask"].bool()
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-4, atol=1e-5)


def test_a_bert_of_another_width_is_refused(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"text_init is .* sizes are not the config's"):
        tiny_host(text_init=str(tmp_path))
