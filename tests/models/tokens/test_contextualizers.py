"""Contextualizers: identity behind a closed gate, formulas written as loops, and the order of frames."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from tiny_models import chirp, fill, open_gates, shuffled
from torch import Tensor, nn

from evlvideo.errors import UserError
from evlvideo.models.tokens.contextualizers import FramePositions, InTowerContextualizer, MergedContextualizer

DIM = 24


def in_tower(max_frames: int | None = None) -> InTowerContextualizer:
    module = InTowerContextualizer(DIM, attention_dim=16, num_heads=4, max_frames=max_frames)
    return fill(module)  # type: ignore[return-value]


def merged(max_frames: int | None = None) -> MergedContextualizer:
    return fill(MergedContextualizer(DIM, num_heads=4, max_frames=max_frames))  # type: ignore[return-value]


def contextualized(module: nn.Module, x: Tensor) -> Tensor:
    """The stream with the context added: the in-tower form leaves the addition to the tower."""
    return x + module(x) if isinstance(module, InTowerContextualizer) else module(x)


both_forms = pytest.mark.parametrize("build", [in_tower, merged])
Build = Callable[..., nn.Module]


def tokens(batch: int = 2, frames: int = 4, positions: int = 5) -> Tensor:
    return chirp(batch, frames, positions, DIM)


@both_forms
@pytest.mark.parametrize("max_frames", [None, 6])
def test_closed_gate_changes_no_bit(build: Build, max_frames: int | None) -> None:
    assert torch.equal(contextualized(build(max_frames), tokens()), tokens())


@both_forms
def test_closed_gate_changes_no_bit_of_one_frame(build: Build) -> None:
    x = tokens(frames=1)
    assert torch.equal(contextualized(build(), x), x)


@both_forms
def test_open_gate_changes_the_tokens(build: Build) -> None:
    assert (contextualized(open_gates(build()), tokens()) - tokens()).abs().max() > 0.05


def test_in_tower_context_of_one_frame_is_the_frame() -> None:
    x = tokens(frames=1)
    torch.testing.assert_close(open_gates(in_tower(), 0.5)(x), 0.5 * x)


def test_in_tower_form_equals_its_formula() -> None:
    module = open_gates(in_tower(), 0.7)
    x = tokens(batch=2, frames=3, positions=2)
    heads, key_dim, value_dim = 4, 16 // 4, DIM // 4
    query, key = module.query(x), module.key(x)
    expected = torch.zeros_like(x)
    for b, n, h, t in product(range(2), range(2), range(heads), range(3)):
        keys, values = slice(h * key_dim, (h + 1) * key_dim), slice(h * value_dim, (h + 1) * value_dim)
        scores = torch.stack([query[b, t, n, keys] @ key[b, s, n, keys] for s in range(3)])
        attention = (scores * 16**-0.5).softmax(dim=0)  # the scale uses the width over all heads
        expected[b, t, n, values] = 0.7 * sum(attention[s] * x[b, s, n, values] for s in range(3))
    torch.testing.assert_close(module(x), expected)


def test_in_tower_positions_do_not_see_each_other() -> None:
    module = open_gates(in_tower())
    changed = tokens()
    changed[:, :, 2] += 1
    difference = (module(changed) - module(tokens())).abs().amax(dim=(0, 1, 3))
    assert (difference > 0).tolist() == [False, False, True, False, False]


def test_merged_form_equals_its_formula() -> None:
    module = open_gates(merged(), 0.7)
    x = tokens(batch=2, frames=3, positions=2)
    heads, head_dim = 4, DIM // 4
    query = module.query(sum(x[:, t] for t in range(3)) / 3)
    key = module.key(x)
    expected = x.clone()
    for b, m, h in product(range(2), range(2), range(heads)):
        part = slice(h * head_dim, (h + 1) * head_dim)
        seen = list(product(range(3), range(2)))  # all merged tokens of all frames
        scores = torch.stack([query[b, m, part] @ key[b, t, n, part] for t, n in seen])
        attention = (scores * head_dim**-0.5).softmax(dim=0)
        context = sum(weight * x[b, t, n, part] for weight, (t, n) in zip(attention, seen, strict=True))
        expected[b, :, m, part] += 0.7 * context
    torch.testing.assert_close(module(x), expected)


def test_merged_form_adds_the_same_context_to_every_frame() -> None:
    context = open_gates(merged())(tokens()) - tokens()
    torch.testing.assert_close(context, context[:, :1].expand_as(context))


@both_forms
def test_without_positions_shuffled_frames_give_shuffled_frames(build: Build) -> None:
    module = open_gates(build())
    torch.testing.assert_close(contextualized(module, shuffled(tokens())), shuffled(contextualized(module, tokens())))


@both_forms
def test_without_positions_the_mean_does_not_know_the_order(build: Build) -> None:
    module = open_gates(build())
    forward, mixed = (contextualized(module, x).mean(dim=1) for x in (tokens(), shuffled(tokens())))
    torch.testing.assert_close(forward, mixed)


@both_forms
def test_trained_positions_tell_the_order(build: Build) -> None:
    module = open_gates(build(6))
    forward, mixed = (contextualized(module, x).mean(dim=1) for x in (tokens(), shuffled(tokens())))
    assert (forward - mixed).abs().max() > 0.01


@both_forms
def test_new_positions_leave_an_open_form_as_it_was(build: Build) -> None:
    without, fresh = build(), build(6)
    fresh.load_state_dict(without.state_dict(), strict=False)
    nn.init.constant_(without.alpha, 0.7)
    nn.init.constant_(fresh.alpha, 0.7)
    assert torch.equal(fresh(tokens()), without(tokens()))


@both_forms
def test_first_step_moves_the_gates_alone(build: Build) -> None:
    module = build(6)
    contextualized(module, tokens()).square().sum().backward()
    moved = {name for name, weight in module.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved == {"alpha", "frame_positions.weight"}
    assert module.frame_positions.weight.grad.any(dim=1).tolist() == [True] * 4 + [False] * 2


@both_forms
def test_second_step_moves_everything(build: Build) -> None:
    module = open_gates(build(6))
    contextualized(module, tokens()).square().sum().backward()
    still = {name for name, weight in module.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert still == set()


@both_forms
def test_more_frames_than_positions_is_a_user_error(build: Build) -> None:
    with pytest.raises(UserError, match=r"4 frames .* positions for 3.*max_frames"):
        build(3)(tokens())


@both_forms
def test_width_that_heads_do_not_divide_is_a_user_error(build: Build) -> None:
    with pytest.raises(UserError, match=r"25 wide, not a multiple of .* 8 heads"):
        type(build())(25)


def test_positions_start_at_zero() -> None:
    positions = FramePositions(DIM, 6)
    assert positions.weight.shape == (6, DIM)
    assert not positions.weight.any()


def test_position_of_a_frame_scales_all_its_tokens() -> None:
    positions = open_gates(nn.ModuleDict({"frame_positions": FramePositions(DIM, 6)}))["frame_positions"]
    expected = tokens() * positions.weight[:4, None].expand(2, 4, 5, DIM)
    torch.testing.assert_close(positions(tokens()), expected)


@both_forms
def test_positions_tell_the_order_behind_a_closed_gate(build: Build) -> None:
    module = open_gates(build(6), alpha=0.0)
    forward, mixed = (contextualized(module, x).mean(dim=1) for x in (tokens(), shuffled(tokens())))
    assert (forward - mixed).abs().max() > 0.01


def test_published_sizes_are_the_defaults() -> None:
    module = InTowerContextualizer(1408)
    sizes = {name: tuple(weight.shape) for name, weight in module.named_parameters()}
    assert sizes == {
        "alpha": (),
        "query.weight": (256, 1408),
        "query.bias": (256,),
        "key.weight": (256, 1408),
        "key.bias": (256,),
    }
    assert module.scale == 256**-0.5
    assert module.num_heads == 8


@both_forms
def test_bfloat16_autocast_runs(build: Build) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = contextualized(open_gates(build()), tokens())
    torch.testing.assert_close(out.float(), contextualized(open_gates(build()), tokens()), rtol=0.05, atol=0.05)
