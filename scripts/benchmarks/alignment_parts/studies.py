"""The studies: which arms each has on a seed. Arms of several studies that are equal are trained once."""

from collections.abc import Iterator
from pathlib import Path

from alignment_parts.arms import ALL, FROZEN, UNFROZEN, Arm, Sizes, multiply_adds, recipe_of, two_stages
from evlvideo.config.recipes.recipe import Recipe
from evlvideo.models.choices import VISUAL_MASKS

SHARES = (0.5, 0.0, 0.25, 0.75, 1.0)
"""Of the steps that align; the first is that of the other studies."""


def masks(seed: int, directory: Path, sizes: Sizes) -> Iterator[Arm]:
    """Plan an arm for each mask, as long aligned as trained with the language model."""
    for mask in VISUAL_MASKS:
        yield Arm(mask, seed, _two_stages(seed, directory, sizes, SHARES[0], mask))


def length(seed: int, directory: Path, sizes: Sizes) -> Iterator[Arm]:
    """Plan an arm for each length of the alignment; the language model is trained in the other steps."""
    for share in SHARES:
        yield Arm(f"{share:.0%}", seed, _two_stages(seed, directory, sizes, share))


def stages(seed: int, directory: Path, sizes: Sizes) -> Iterator[Arm]:
    """Plan the four stages, and one stage of as many multiply-adds, which trains all or the connector alone."""
    four = four_stages(seed, directory, sizes)
    yield Arm("four stages", seed, four)
    budget = multiply_adds(four)
    for name, like in (("one stage, all", ALL), ("one stage, connector", FROZEN)):
        place = directory / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
        # The peak rate of every part is the highest that the four stages have.
        stage = {"name": "whole", "like": like, "training": {"learning_rate": 1e-3}}
        one = multiply_adds(recipe_of(place, seed, [{**stage, "steps": 1}], sizes))
        yield Arm(name, seed, recipe_of(place, seed, [{**stage, "steps": max(1, round(budget / one))}], sizes))


def four_stages(seed: int, directory: Path, sizes: Sizes) -> Recipe:
    """Plan the four stages of the config, each a quarter of the steps."""
    names = (FROZEN, "align-more", UNFROZEN, ALL)
    each = [{"name": name, "like": name, "steps": sizes.steps // len(names)} for name in names]
    return recipe_of(directory / f"four-stages-{seed}", seed, each, sizes)


def _two_stages(seed: int, directory: Path, sizes: Sizes, share: float, mask: str = VISUAL_MASKS[0]) -> Recipe:
    place = directory / f"aligned-{round(share * sizes.steps)}-{mask}-{seed}"
    return recipe_of(place, seed, two_stages(sizes.steps, share), sizes, model={"visual_mask": mask})
