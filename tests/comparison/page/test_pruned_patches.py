import numpy as np

from evlvideo.comparison.page.pruned_patches import GAP, paint_pruned


def frame_of_two_colors() -> np.ndarray:
    frame = np.zeros((30, 60, 3), np.uint8)
    frame[:, :30], frame[:, 30:] = (200, 0, 0), (0, 0, 50)
    return frame


def test_a_frame_is_painted_once_for_each_prune_from_top_to_bottom():
    painted = paint_pruned(frame_of_two_colors(), np.ones((3, 1, 2), bool))
    assert painted.shape == (3 * 80 + 2 * GAP, 160, 3)
    assert painted.dtype == np.uint8
    assert (painted[80 : 80 + GAP] == 255).all()


def test_patches_that_are_left_keep_their_colors_and_the_others_are_pale():
    painted = paint_pruned(frame_of_two_colors(), np.array([[[True, False]]]))
    assert painted[40, 40].tolist() == [200, 0, 0]
    red, green, blue = painted[40, 120].tolist()
    assert red == green == blue > 200


def test_parts_of_a_patch_stay_where_they_are():
    frame = frame_of_two_colors()
    frame[:15, :30] = (0, 200, 0)
    painted = paint_pruned(frame, np.array([[[True, False]]]))
    assert painted[10, 40].tolist() == [0, 200, 0]
    assert painted[70, 40].tolist() == [200, 0, 0]
