"""ELIP's pruning against its published code, in every host's tower and in both libraries' towers."""

from pathlib import Path

import pytest
import torch
from elip_case import ElipCase, case_directories
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from evlvideo.models.blocks.prunable_towers import text_in_tower_width
from evlvideo.models.blocks.pruned_encoding import encode, encode_pruned

LIBRARIES = ("timm", "transformers")
every_case = pytest.mark.parametrize("directory", case_directories(), ids=lambda path: path.name)
every_library = pytest.mark.parametrize("library", LIBRARIES)


@every_case
@every_library
def test_tokens_and_scores_are_the_published_ones(directory: Path, library: str) -> None:
    case = ElipCase(directory)
    encoding = encode_pruned(case.towers()[library], case.images, case.guide, case.pruning())
    for number in case.prunes:
        prune = encoding.prunes[number]
        assert prune is not None
        torch.testing.assert_close(prune.scores, case.expected[f"scores_{number}"], rtol=0, atol=1e-4)
        assert torch.equal(prune.kept, case.expected[f"kept_{number}"].long())
        assert torch.equal(prune.folded, case.expected[f"folded_{number}"].long())
        torch.testing.assert_close(encoding.pruned[number], case.expected[f"tokens_{number}"], rtol=0, atol=1e-4)
    for name in ("pruned", "image_embeds"):
        if name in case.expected:
            torch.testing.assert_close(encoding.tokens, case.expected[name], rtol=0, atol=1e-4)


@every_case
@every_library
def test_without_pruning_the_tower_is_the_published_one(directory: Path, library: str) -> None:
    case = ElipCase(directory)
    if "full" not in case.expected:
        pytest.skip("the case has no value of the whole tower")
    tokens = encode(case.towers()[library], case.images)
    torch.testing.assert_close(tokens, case.expected["full"], rtol=0, atol=1e-4)


@every_case
@every_library
def test_gradient_of_the_images_is_the_published_one(directory: Path, library: str) -> None:
    case = ElipCase(directory)
    if "grad_weights" not in case.expected:
        pytest.skip("the case has no gradient of the tower alone")
    images, guide = case.images.requires_grad_(), case.guide.clone().requires_grad_()
    encoding = encode_pruned(case.towers()[library], images, guide, case.pruning())
    (encoding.tokens * case.expected["grad_weights"]).sum().backward()
    torch.testing.assert_close(images.grad, case.expected["grad_pixel_values"], rtol=1e-3, atol=1e-4)
    assert guide.grad is None


@every_case
def test_towers_of_both_libraries_agree_on_cheaper_look_aheads(directory: Path) -> None:
    case = ElipCase(directory)
    for look_ahead in ("one", "previous"):
        first, second = (
            encode_pruned(tower, case.images, case.guide, case.pruning(look_ahead=look_ahead)).tokens
            for tower in case.towers().values()
        )
        torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


@every_case
@every_library
def test_clip_features_and_guide_are_the_published_ones(directory: Path, library: str) -> None:
    case = ElipCase(directory)
    if case.host != "CLIP":
        pytest.skip("another host")
    projection = nn.Linear(case.sizes["width"], case.sizes["embed_dim"], bias=False)
    projection.weight.data = load_file(directory / "clip.safetensors")["visual.proj"].T.contiguous()
    guide = text_in_tower_width(case.expected["text_features"], projection)
    torch.testing.assert_close(guide, case.expected["guide"], rtol=0, atol=1e-5)
    tower = case.towers()[library]
    pruned = encode_pruned(tower, case.images, guide, case.pruning()).tokens
    for tokens, name in ((pruned, "image_features"), (encode(tower, case.images), "image_features_full")):
        features = F.normalize(projection(tokens[:, 0]), dim=-1)
        torch.testing.assert_close(features, case.expected[name], rtol=0, atol=1e-5)
