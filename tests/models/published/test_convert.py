"""Converting checkpoints, as the command does it."""

from pathlib import Path

import pytest
import torch
from toy_run import LANGUAGE_SIZES, Toy, make_tokenizer
from transformers import BertConfig, OPTConfig, OPTForCausalLM

from evlvideo.errors import UserError
from evlvideo.files import read_json
from evlvideo.inference.caption_files import caption_files
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors.base import TowerShape
from evlvideo.models.connectors.blip2 import Blip2, Blip2Options
from evlvideo.models.published.convert import described, from_published, to_published
from evlvideo.models.weights import read_weights

PUBLISHED = Path(__file__).parents[2] / "fixtures" / "opt-video"
HEADS = ["vision_overrides.num_heads=4", "bert_config.num_attention_heads=4"]


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    """A language model of the published case's width, with a tokenizer."""
    tokenizer = make_tokenizer(["a cat", "a dog"])
    sizes = LANGUAGE_SIZES | {"hidden_size": 40, "word_embed_proj_dim": 40, "vocab_size": len(tokenizer)}
    OPTForCausalLM(OPTConfig(**sizes)).save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


@pytest.fixture
def converted(language_model: Path, tmp_path: Path) -> Path:
    convert(language_model, tmp_path / "ours")
    return tmp_path / "ours"


def convert(language_model: Path, out: Path) -> str:
    config = from_published(
        PUBLISHED / "checkpoint.pth",
        out,
        vision=str(PUBLISHED / "eva_vit.pth"),
        language_model=str(language_model),
        overrides=HEADS,
    )
    return described(config)


def test_converted_checkpoint_captions_videos(converted: Path, toy: Toy) -> None:
    (file,) = caption_files([toy.clips("test")[0].video], str(converted))
    assert len(file.captions) == 1


def test_what_was_found_is_told(language_model: Path, tmp_path: Path) -> None:
    told = convert(language_model, tmp_path / "ours")
    assert told.startswith("EVLGen-video: tower eva_giant_patch14_clip_224")
    assert "3 layers with 40 channels and 4 heads, r = 2, language model opt" in told


def test_conversion_leaves_nothing_but_the_checkpoint(converted: Path, tmp_path: Path) -> None:
    assert {path.name for path in tmp_path.iterdir()} == {"llm", "ours"}
    assert {"config.json", "model.safetensors", "towers.json"} < {path.name for path in converted.iterdir()}


def test_checkpoint_names_its_towers_from_everywhere(language_model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    convert(Path("llm"), Path("ours"))
    monkeypatch.chdir("/")
    assert EvlVideoForCaptioning.from_pretrained(tmp_path / "ours").config.language_model == str(language_model)


def test_way_back_gives_the_published_file_again(converted: Path, tmp_path: Path) -> None:
    to_published(str(converted), tmp_path / "back.pth")
    original = torch.load(PUBLISHED / "checkpoint.pth", weights_only=True)
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert (back.keys(), back["config"]) == (original.keys(), original["config"])
    assert back["model"].keys() == original["model"].keys()
    assert all(torch.equal(back["model"][name], value) for name, value in original["model"].items())


def test_failure_leaves_nothing(language_model: Path, tmp_path: Path) -> None:
    (language_model / "tokenizer.json").unlink()
    (language_model / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        convert(language_model, tmp_path / "ours")
    assert {path.name for path in tmp_path.iterdir()} == {"llm"}


def test_checkpoint_that_is_there_is_not_written_over(converted: Path, language_model: Path) -> None:
    before = read_json(converted / "config.json")
    with pytest.raises(UserError, match="exists already"):
        convert(language_model, converted)
    assert read_json(converted / "config.json") == before


def test_tokenizer_of_another_language_model_is_a_user_error(language_model: Path, tmp_path: Path) -> None:
    sizes = LANGUAGE_SIZES | {"hidden_size": 40, "word_embed_proj_dim": 40, "vocab_size": 50}
    OPTForCausalLM(OPTConfig(**sizes)).save_pretrained(language_model)
    with pytest.raises(UserError, match="the language model has only 50 tokens"):
        convert(language_model, tmp_path / "ours")


def blip2_file(path: Path) -> dict[str, torch.Tensor]:
    """A published file of BLIP-2 as small as the published case, and what is in it by our names."""
    width = read_weights(PUBLISHED / "eva_vit.pth")["patch_embed.proj.weight"].shape[0]
    sizes = BertConfig(hidden_size=40, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80)
    ours = Blip2(sizes, TowerShape(width, 17, (4, 4), class_token=True), Blip2Options(num_queries=5)).state_dict()
    changes = {
        "qformer.layernorm": "Qformer.bert.embeddings.LayerNorm",
        "qformer.encoder": "Qformer.bert.encoder",
        "attention.attention.": "attention.self.",
        "queries": "query_tokens",
    }
    published = {"ln_vision.weight": torch.ones(width), "ln_vision.bias": torch.zeros(width)}
    published |= {"opt_proj.weight": torch.randn(40, 40), "opt_proj.bias": torch.zeros(40)}
    for name, value in ours.items():
        for our, their in changes.items():
            name = name.replace(our, their)
        published[name] = value
    torch.save({"model": published}, path)
    return ours


def test_published_blip2_is_converted(language_model: Path, tmp_path: Path, toy: Toy) -> None:
    ours = blip2_file(tmp_path / "blip2.pth")
    config = from_published(
        tmp_path / "blip2.pth",
        tmp_path / "ours",
        vision=str(PUBLISHED / "eva_vit.pth"),
        language_model=str(language_model),
        overrides=[*HEADS, "fusion=concat"],
    )
    assert described(config).startswith("connector=blip2: tower eva_giant_patch14_clip_224")
    model = EvlVideoForCaptioning.from_pretrained(tmp_path / "ours")
    assert all(torch.equal(value, ours[name]) for name, value in model.connector.state_dict().items())
    assert len(list(caption_files([toy.clips("test")[0].video], str(tmp_path / "ours")))) == 1


def test_qformer_beside_a_file_that_holds_its_own_is_refused(language_model: Path, tmp_path: Path) -> None:
    blip2_file(tmp_path / "blip2.pth")
    with pytest.raises(UserError, match=r"--qformer is for video_llama or videochat"):
        from_published(
            tmp_path / "blip2.pth",
            tmp_path / "ours",
            vision=str(PUBLISHED / "eva_vit.pth"),
            language_model=str(language_model),
            overrides=HEADS,
            qformer=tmp_path / "blip2.pth",
        )


def test_the_contrastive_term_is_accepted_left_out_and_written_back(language_model: Path, tmp_path: Path) -> None:
    content = torch.load(PUBLISHED / "checkpoint.pth", weights_only=True)
    term = {"temp": torch.tensor(0.05), "vision_proj.weight": torch.ones(4, 40), "text_proj.bias": torch.zeros(4)}
    content["model"] |= term
    torch.save(content, tmp_path / "with_term.pth")
    from_published(
        tmp_path / "with_term.pth",
        tmp_path / "ours",
        vision=str(PUBLISHED / "eva_vit.pth"),
        language_model=str(language_model),
        overrides=HEADS,
    )
    assert not [
        name
        for name in read_weights(tmp_path / "ours" / "model.safetensors")
        if name.startswith(("temp", "vision_proj", "text_proj"))
    ]
    to_published(str(tmp_path / "ours"), tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert all(torch.equal(back[name], value) for name, value in term.items())
