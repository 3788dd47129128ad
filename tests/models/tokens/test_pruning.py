"""What ELIP keeps and folds, and its schedule."""

import pytest
import torch

from evlvideo.errors import UserError
from evlvideo.models.tokens.pruning import (
    PRESETS,
    PruningSchedule,
    blend,
    choose,
    keep_and_fold,
    patches_left,
    token_sources,
    tokens_by_block,
)


def test_highest_scores_stay_in_their_order_and_the_others_fold() -> None:
    tokens = torch.arange(6.0).view(1, 6, 1)
    prune = choose(torch.tensor([[0.1, 0.4, 0.1, 0.3, 0.1]]), 2)
    assert prune is not None
    assert prune.kept.tolist() == [[2, 4]]
    assert prune.folded.tolist() == [[1, 3, 5]]
    kept = keep_and_fold(tokens, prune)
    torch.testing.assert_close(kept, torch.tensor([[[0.0], [2.0], [4.0], [3.0]]]), rtol=0, atol=1e-4)


def test_of_equal_scores_the_first_stay() -> None:
    prune = choose(torch.ones(1, 5), 2)
    assert prune is not None
    assert prune.kept.tolist() == [[1, 2]]


def test_more_prefix_tokens_all_stay() -> None:
    tokens = torch.randn(2, 8, 3)
    prune = choose(torch.rand(2, 5), 2, prefix=3)
    assert prune is not None
    assert torch.equal(keep_and_fold(tokens, prune, 3)[:, :3], tokens[:, :3])


def test_nothing_is_folded_if_all_are_kept() -> None:
    assert choose(torch.rand(1, 4), 4) is None
    assert choose(torch.rand(1, 4), 9) is None


def test_tokens_that_nobody_looks_at_fold_to_nothing_and_not_to_nan() -> None:
    prune = choose(torch.tensor([[1.0, 0.0, 0.0]]), 1)
    assert prune is not None
    assert keep_and_fold(torch.ones(1, 4, 2), prune)[0, -1].tolist() == [0, 0]


def test_class_token_is_blended_in_a_copy() -> None:
    tokens, guide = torch.zeros(1, 3, 2), torch.ones(1, 2)
    blended = blend(tokens, guide)
    torch.testing.assert_close(blended[0, 0], torch.tensor([0.2, 0.2]))
    assert not tokens.any()


@pytest.mark.parametrize(
    ("host", "patches", "kept"),
    [
        ("blip", 196, (176, 127, 78)),
        ("albef", 256, (230, 166, 102)),
        ("meter", 49, (44, 34, 22)),
    ],
)
def test_published_numbers_of_kept_patches(host: str, patches: int, kept: tuple[int, ...]) -> None:
    assert PRESETS[host].kept_patches(patches) == kept


def test_published_tokens_of_each_block() -> None:
    assert tokens_by_block(PRESETS["blip"], 12, 196) == (197, 197, 178, 178, *[129] * 6, 80, 80)
    assert tokens_by_block(PRESETS["meter"], 11, 49) == (50, 50, 46, 46, *[36] * 5, 24, 24)


@pytest.mark.parametrize(
    ("begin", "ahead", "keep", "message"),
    [
        ((), (), (), "at least one"),
        ((2,), (1, 1), (0.5,), "one entry for each prune"),
        ((4, 2), (1, 1), (0.9, 0.5), r"begin is \[4, 2\]; its blocks must rise"),
        ((0,), (1,), (0.5,), "must rise, from 1"),
        ((2,), (0,), (0.5,), r"look_ahead is \[0\]"),
        ((2, 4), (1, 1), (0.5, 0.6), r"keep is \[0.5, 0.6\]; its shares must fall"),
        ((2,), (1,), (1.0,), "between 0 and 1"),
    ],
)
def test_wrong_schedules_are_refused(
    begin: tuple[int, ...], ahead: tuple[int, ...], keep: tuple[float, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        PruningSchedule(begin, ahead, keep)


def test_a_prune_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="of 4 patches: a prune would keep none"):
        PruningSchedule((1,), (1,), (0.2,)).kept_patches(4)


def test_patches_left_are_those_that_no_prune_folded() -> None:
    first = choose(torch.tensor([[0.1, 0.4, 0.1, 0.3, 0.2]]), 3)  # patches 1, 3, 4 stay
    second = choose(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), 2)  # of patches 1, 3, 4 and the folded token
    left = patches_left([first, second], 5)
    assert left.tolist() == [[[False, True, False, True, True], [False, False, False, False, True]]]


def test_a_prune_that_prunes_nothing_leaves_what_was_left() -> None:
    prune = choose(torch.tensor([[0.1, 0.4, 0.3]]), 2)
    assert patches_left([None, prune, None], 3).tolist() == [[[True] * 3, [False, True, True], [False, True, True]]]


@pytest.mark.parametrize("prefix", [1, 3])
@pytest.mark.parametrize("fold", [True, False])
def test_patches_left_have_a_token_to_themselves(prefix: int, fold: bool) -> None:
    generator, prunes, patches, candidates = torch.Generator().manual_seed(0), [], 12, 12
    for k in (9, 6, 2):
        prunes.append(choose(torch.rand(4, candidates, generator=generator), k, prefix))
        candidates = k + fold
    sources = token_sources(prunes, patches + prefix, prefix, fold=fold)[:, prefix:, prefix:]
    alone = ((sources == 1) & ((sources > 0).sum(dim=2, keepdim=True) == 1)).any(dim=1)
    assert torch.equal(patches_left(prunes, patches, prefix)[:, -1], alone)
