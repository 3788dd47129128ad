import pytest
from tiny_architecture import workload

from evlvideo.errors import UserError
from evlvideo.estimate.records import ByPart, Memory


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_a_number_that_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"num_frames is .*at least 1"):
        workload(num_frames=value)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(UserError, match=r"(?s)batch_size is 0.*precision is 'int8'; allowed: bf16, fp16, fp32"):
        workload(batch_size=0, precision="int8")


def test_a_precision_to_compare_with_is_checked_too() -> None:
    with pytest.raises(UserError, match=r"other_precision is 'int8'; allowed: bf16, fp16, fp32"):
        workload(other_precision="int8")


def test_parts_add_up() -> None:
    assert ByPart(vision_tower=1, connector=20, contextualizer=300, language_model=4000).total == 4321


def test_memory_adds_up() -> None:
    assert Memory(weights=1, gradients=20, optimizer=300, activations=4000).total == 4321
