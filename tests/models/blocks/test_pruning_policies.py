"""What guides pruning in a captioner's tower, and its controls."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import END, PAD, MakeConfig, Towers, chirp, half_towers, pixels, tiny_config, tiny_model, write_towers
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.blocks.prunable_towers import TimmTower
from evlvideo.models.blocks.pruned_encoding import encode_pruned, scores_by_image
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.text.draft import draft_guide, mean_words
from evlvideo.models.vision import VisionTower

PRUNING = {"begin": [1], "keep": [0.5]}
KEPT = 8  # of 16 patches
FITTED: dict[str, dict[str, Any]] = {
    "prompt": {"guide": "prompt", "prompt": "a dog", "vision_share": 0.2},
    "predicted": {"guide": "predicted", "vision_share": 0.2},
    "draft": {"guide": "draft", "vision_share": 0.2},
}


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Towers:
    return write_towers(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def make_config(towers: Towers) -> MakeConfig:
    return partial(tiny_config, towers)


def captioner(towers: Towers, fit: bool = True, **pruning: Any) -> EvlVideoForCaptioning:
    """A captioner with a guide of values that no fit would give."""
    model = tiny_model(towers, pruning=PRUNING | pruning, fusion="mean_tokens")
    guide = model.vision_tower.pruning_guide
    if guide is not None and fit:
        weight = chirp(*guide.weight.shape, offset=3) if guide.kind != "prompt" else None
        guide.fit(weight, chirp(*guide.bias.shape, offset=5, scale=4))
    return model


def of_images(model: EvlVideoForCaptioning, images: Tensor, guide: Any) -> Tensor:
    """What the method itself makes of frames."""
    pruning = model.config.tower_pruning
    assert pruning is not None
    return encode_pruned(TimmTower(model.vision_tower.vit), images.flatten(0, 1), guide, pruning).tokens


def test_a_prompt_guides_all_frames_alike(towers: Towers) -> None:
    model = captioner(towers, **FITTED["prompt"])
    guide = model.vision_tower.pruning_guide
    assert guide is not None
    expected = of_images(model, pixels(2, 3), guide.bias.expand(6, -1))
    assert torch.equal(model.vision_tower(pixels(2, 3)).flatten(0, 1), expected)


def test_a_predicted_text_is_a_linear_map_of_the_class_token_before_the_prune(towers: Towers) -> None:
    model = captioner(towers, **FITTED["predicted"])
    tower, guide = model.vision_tower, model.vision_tower.pruning_guide
    assert guide is not None
    before = tower.class_tokens(pixels(2, 3))[:, :, 0].flatten(0, 1)
    expected = of_images(model, pixels(2, 3), before @ guide.weight[0].T + guide.bias[0])
    torch.testing.assert_close(tower(pixels(2, 3)).flatten(0, 1), expected)


def test_a_draft_is_captioned_by_the_class_token_and_guides_the_second_pass(towers: Towers) -> None:
    model = captioner(towers, **FITTED["draft"])
    guide = model.vision_tower.pruning_guide
    assert guide is not None
    first = model.features_to_prompt(model.vision_tower(pixels(2, 3)))
    drafts = model.generate(soft_prompt=first, max_new_tokens=30)
    words = model.language_model.get_input_embeddings()(drafts)
    real = (drafts != END) & (drafts != PAD)
    means = torch.stack([row[kept].mean(dim=0) for row, kept in zip(words, real, strict=True)])
    expected = model.features_to_prompt(model.vision_tower(pixels(2, 3), guide.of_texts(means)))
    torch.testing.assert_close(model.encode(pixels(2, 3)), expected)
    assert not torch.equal(expected, first)


def test_a_clip_alone_is_drafted_and_pruned_as_in_a_batch(towers: Towers) -> None:
    model = captioner(towers, **FITTED["draft"])
    together = model.encode(pixels(2, 3))
    alone = torch.cat([model.encode(clip[None]) for clip in pixels(2, 3)])
    torch.testing.assert_close(alone, together)


def test_training_has_no_drafts(towers: Towers) -> None:
    drafting, plain = captioner(towers, **FITTED["draft"]), captioner(towers)
    assert draft_guide(drafting.train(), pixels(1, 2)) is None
    assert torch.equal(drafting._features(pixels(1, 2), None), plain.vision_tower(pixels(1, 2)))


@pytest.mark.parametrize("kind", FITTED)
def test_until_it_is_fitted_the_class_token_guides(towers: Towers, kind: str) -> None:
    model = captioner(towers, fit=False, **FITTED[kind])
    assert torch.equal(model.encode(pixels(1, 2)), captioner(towers).encode(pixels(1, 2)))


@pytest.mark.parametrize("kind", FITTED)
def test_a_guide_in_half_precision(towers: Towers, kind: str) -> None:
    model = half_towers(captioner(towers, **FITTED[kind]))
    assert model.encode(pixels(1, 2)).isfinite().all()
    guide = model.vision_tower.pruning_guide
    assert guide is not None
    assert guide.bias.dtype == torch.float32


def test_a_drafting_captioner_refuses_features_but_in_training(towers: Towers) -> None:
    model = captioner(towers, **FITTED["draft"])
    features = model.vision_tower(pixels(1, 2))
    with pytest.raises(UserError, match=r"prunes each clip by its own draft.*set data.features to null"):
        model.encode(features=features)
    model.train().encode(features=features)


def test_a_text_of_another_width_is_refused(towers: Towers) -> None:
    model = captioner(towers)
    with pytest.raises(UserError, match="The text has 7 channels and the tower 48"):
        model.vision_tower(pixels(1, 2), torch.zeros(1, 7))


@pytest.mark.parametrize("kind", FITTED)
def test_a_fitted_guide_is_in_the_checkpoint(towers: Towers, tmp_path: Path, kind: str) -> None:
    model = captioner(towers, **FITTED[kind])
    prompt = model.encode(pixels(1, 2))
    model.save_pretrained(tmp_path)
    opened = EvlVideoForCaptioning.from_pretrained(tmp_path)
    assert torch.equal(opened.encode(pixels(1, 2)), prompt)
    assert opened.num_parameters(only_trainable=True) == model.num_parameters(only_trainable=True)


@pytest.mark.parametrize(
    "change",
    [{"guide": "class"}, {"guide": "none"}, {"guide": "draft"}, {"guide": "prompt", "prompt": "a cat"}, {"begin": [1]}],
)
def test_another_guide_leaves_the_fitted_one_out(towers: Towers, tmp_path: Path, change: dict[str, Any]) -> None:
    kind = "predicted" if change.keys() == {"begin"} else "prompt"
    saved = captioner(towers, **(FITTED[kind] | ({"begin": [0 + 1], "keep": [0.25]} if kind == "predicted" else {})))
    saved.save_pretrained(tmp_path)
    pruning = PRUNING | change
    config = saved.config.changed(pruning=pruning | ({"guide": "predicted"} if kind == "predicted" else {}))
    guide = EvlVideoForCaptioning.from_pretrained(tmp_path, config=config).vision_tower.pruning_guide
    if kind == "predicted":  # another share is kept before the same block: the maps are the same
        assert guide is not None and guide.is_fitted
    else:
        assert guide is None or not guide.is_fitted


@pytest.mark.parametrize("keep", [[0.5], [0.75, 0.5]])
def test_dropped_tokens_leave_no_folded_one(make_config: MakeConfig, keep: list[float]) -> None:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 4}
    pruning = {"begin": list(range(1, len(keep) + 1)), "keep": keep, "fold": False}
    tower = VisionTower.from_config(make_config(pruning=pruning, fusion="mean_tokens", vision_overrides=sizes))
    assert tower.num_tokens == 1 + KEPT
    assert tower(pixels(1, 2)).shape[2] == 1 + KEPT


def test_random_patches_are_the_same_alone_and_in_a_batch(towers: Towers) -> None:
    model = captioner(towers, scores="random")
    together = model.vision_tower(pixels(2, 3))
    torch.testing.assert_close(model.vision_tower(pixels(2, 3)[1:]), together[1:])
    assert not torch.equal(together, captioner(towers).vision_tower(pixels(2, 3)))


def test_random_patches_differ_between_frames_and_prunes() -> None:
    images = pixels(1, 2)[0]
    scores = scores_by_image(images)
    first, second = scores(torch.empty(2, 9)), scores(torch.empty(2, 9))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


def test_no_guide_is_no_pruning(towers: Towers) -> None:
    plain = tiny_model(towers)
    model = tiny_model(towers, pruning=PRUNING | {"guide": "none"})  # with fusion=mean, which pruning cannot have
    assert torch.equal(model.encode(pixels(1, 2)), plain.encode(pixels(1, 2)))
    assert model.config.pruning_guide == "none"


def test_words_are_averaged_without_padding_and_endings() -> None:
    words = torch.nn.Embedding.from_pretrained(torch.arange(20.0).view(10, 2))
    ids = torch.tensor([[7, 9, END, PAD], [END, PAD, PAD, PAD]])
    assert mean_words(words, ids, {END, PAD}).tolist() == [[16.0, 17.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"guide": "caption"}, "tell the captioner what it is to say"),
        ({"guide": "text"}, "pruning.guide is 'text'; allowed: none, class, prompt, predicted, draft"),
        ({"guide": "prompt"}, "pruning.guide is prompt, and pruning.prompt None; give a text"),
        ({"guide": "prompt", "prompt": "  "}, "pruning.prompt '  '; give a text"),
        ({"prompt": "a dog"}, "pruning.prompt is 'a dog', but pruning.guide is class"),
        ({"guide": "draft", "vision_share": 1.5}, "vision_share is 1.5; it must be a number from 0 to 1"),
        ({"vision_share": 0.5}, "guide=class has no text beside the class token"),
        ({"fold": "no"}, "pruning.fold is 'no'; it must be true or false"),
        ({"scores": "best"}, "pruning.scores is 'best'; allowed: attention, random"),
        ({"scores": "random", "guide": "draft"}, "random, which no guide changes, but pruning.guide is draft"),
    ],
)
def test_wrong_guides_are_refused(make_config: MakeConfig, pruning: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config(pruning=PRUNING | pruning, fusion="mean_tokens")
