from pathlib import Path
from typing import Any

import pytest
from toy_run import FRAMES, Toy

from evlvideo.config.loading import save_config
from evlvideo.errors import UserError
from evlvideo.experiments.sweep.plan import Sweep, plan_sweep


@pytest.fixture
def config(toy: Toy, tmp_path: Path) -> Path:
    """A run's YAML: a toy of 17 tokens a frame and two layers, that averages frames."""
    save_config(toy.config(tmp_path / "run", model={"fusion": "mean"}), tmp_path / "config.yaml")
    return tmp_path / "config.yaml"


@pytest.fixture
def plan(config: Path, tmp_path: Path) -> Any:
    def make(*settings: str, checkpoint: str | None = None) -> Sweep:
        return plan_sweep(config, settings, tmp_path / "sweep", checkpoint=checkpoint)

    return make


def test_every_value_is_a_run_of_its_own_in_the_order_given(plan: Any, tmp_path: Path) -> None:
    made = plan("r=4,0", "training.max_steps=2")
    assert (made.key, made.name) == ("model.merge_r", "r")
    assert [variant.config.model.merge_r for variant in made.variants] == [4, 0]
    assert [variant.config.training.max_steps for variant in made.variants] == [2, 2]
    assert [variant.directory for variant in made.variants] == [tmp_path / "sweep" / name for name in ("r-4", "r-0")]
    assert not (tmp_path / "sweep").exists()


def test_tokens_and_costs_are_counted_before_anything_runs(plan: Any) -> None:
    few, many = plan("r=0,6").variants
    assert [(v.merged_tokens, v.soft_tokens) for v in (few, many)] == [(0, 17), (11, 6)]
    assert few.training_multiply_adds > many.training_multiply_adds
    assert few.captioning_multiply_adds > many.captioning_multiply_adds


def test_soft_tokens_are_those_of_all_frames_where_they_are_concatenated(plan: Any) -> None:
    assert plan("r=0,4", "model.fusion=concat").variants[1].soft_tokens == FRAMES * 9


def test_what_a_layer_cannot_merge_is_noted_and_so_is_what_comes_to_the_same(plan: Any) -> None:
    whole, capped, same = plan("r=4,6,7").variants
    assert whole.notes == ()
    assert capped.notes == ("capped from layer 2 of 2 on, where half of the tokens are fewer: 6, 5 are merged",)
    assert same.merged_tokens == capped.merged_tokens
    assert same.notes[1] == "merges as many tokens as r=6"


def test_other_keys_can_be_swept(plan: Any) -> None:
    made = plan("data.num_frames=1,2", "r=4")
    assert (made.key, made.name) == ("data.num_frames", "num_frames")
    assert [(variant.value, variant.config.data.num_frames) for variant in made.variants] == [(1, 1), (2, 2)]
    assert [variant.config.model.merge_r for variant in made.variants] == [4, 4]
    assert all(not variant.notes for variant in made.variants)


def test_lists_with_one_number_a_layer_are_values(plan: Any) -> None:
    made = plan("model.merge_r=[2,4],[4,2]")
    assert [variant.config.model.merge_r for variant in made.variants] == [[2, 4], [4, 2]]
    assert [variant.directory.name for variant in made.variants] == ["r-2_4", "r-4_2"]
    assert made.variants[1].notes == ("merges as many tokens as r=[2,4]",)


def test_tokens_to_leave_can_be_swept(plan: Any) -> None:
    made = plan("model.merge_to=17,12,5")
    assert (made.name, [variant.label for variant in made.variants]) == ("merge_to", ["17", "12", "5"])
    assert [(v.merged_tokens, v.soft_tokens) for v in made.variants] == [(0, 17), (5, 12), (12, 5)]
    assert [variant.notes for variant in made.variants] == [
        ("the layers merge 0, 0",),
        ("the layers merge 3, 2",),
        ("the layers merge 8, 4",),
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["r=0,-1"], "r is -1; it must be a whole number, at least 0"),
        (["r=0,many"], "r is many; it must be a whole number"),
        (["r=0,2.5"], "r is 2.5; it must be a whole number"),
        (["r=0,9"], r"r=9: the first layer has 17 tokens and can merge at most 8, half"),
        (["r=0,[1,2,3]"], r"(?s)r=\[1,2,3\]: .*merge_r has 3 numbers for 2 layers"),
        (["model.merge_to=4,17"], "merge_to=4: merge_to is 4; allowed: 5 to 17"),
        (["model.merge_to=8,17", "r=3"], "model.merge_r is 3 and model.merge_to is 8; give one of them"),
        (["r=0,,4"], "r has an empty value between two commas"),
        (["r=4,0,4"], "r=4 is given 2 times"),
        (["r=4"], "No key has several values"),
        ([], "No key has several values"),
        (["r=0,4", "data.num_frames=1,2"], r"Several keys have several values \(model.merge_r, data.num_frames\)"),
        (["data.num_frame=1,2"], "unknown key data.num_frame; did you mean data.num_frames"),
        (["data.num_frames=1,0"], "data.num_frames is 0; it must be at least 1"),
        (["output_dir=a,b"], "output_dir cannot be swept"),
        (["r=0,4", "data.kind=questions", "data.dataset=mini_images"], "data.kind is questions, but captions are"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(plan: Any, tmp_path: Path, settings: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(*settings)
    assert not (tmp_path / "sweep").exists()


def test_all_wrong_values_are_told_at_once(plan: Any) -> None:
    with pytest.raises(UserError) as error:
        plan("r=-1,a,3")
    assert "r is -1" in str(error.value) and "r is a" in str(error.value) and "r is 3" not in str(error.value)


def test_what_only_training_uses_cannot_be_swept_without_it(plan: Any, toy: Toy) -> None:
    with pytest.raises(UserError, match=r"training.max_steps cannot be swept without training"):
        plan("training.max_steps=1,2", checkpoint=str(toy.checkpoint))


def test_a_checkpoint_gets_no_parts_that_were_not_trained(plan: Any, toy: Toy) -> None:
    with pytest.raises(UserError, match=r"model.contextualizer is 'in_tower', and .* was trained with 'none'"):
        plan("r=0,4", "model.contextualizer=in_tower", checkpoint=str(toy.checkpoint))


def test_a_checkpoint_that_is_not_there_is_told(plan: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"r=0: There is no checkpoint at"):
        plan("r=0,4", checkpoint=str(tmp_path / "none"))


def test_a_directory_with_a_run_of_other_settings_is_refused(plan: Any) -> None:
    made = plan("r=0,4", "training.max_steps=2")
    save_config(made.variants[1].config, made.variants[1].directory / "config.yaml")
    assert plan("r=0,4", "training.max_steps=2") == made
    with pytest.raises(UserError, match=r"r-4 holds a run with other settings \(training.max_steps\)"):
        plan("r=0,4", "training.max_steps=3")


def test_a_connector_that_merges_nothing_can_be_swept_by_frames_and_not_by_r(plan: Any) -> None:
    few, many = plan("data.num_frames=1,2", "model.connector=linear", "model.fusion=concat").variants
    assert [(v.merged_tokens, v.soft_tokens) for v in (few, many)] == [(0, 17), (0, 34)]
    with pytest.raises(UserError, match="connector=linear merges no tokens"):
        plan("r=0,4", "model.connector=linear")
