import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from evlvideo.errors import UserError
from evlvideo.results.retrieval.features import Matching, RetrievalFeatures

GENERATOR = np.random.default_rng(0)
ARRAYS = {
    "images": GENERATOR.normal(size=(3, 4)).astype(np.float32),
    "texts": GENERATOR.normal(size=(4, 4)).astype(np.float32),
}
NAMES: dict[str, Any] = {"image_ids": ["a", "b", "c"], "text_ids": ["0", "1", "2", "3"], "owner": [0, 1, 2, 1]}


def write(root: Path, arrays: dict[str, np.ndarray] | None = None, **names: Any) -> Path:
    path = root / "features.safetensors"
    save_file(ARRAYS | (arrays or {}), path)
    path.with_suffix(".json").write_text(json.dumps(NAMES | names))
    return path


def changed(name: str, row: int, value: float) -> dict[str, np.ndarray]:
    array = ARRAYS[name].copy()
    array[row] = value
    return {name: array}


def test_features_that_are_written_are_read(tmp_path: Path) -> None:
    matching = Matching(np.array([[1, 0], [2, 3], [0, 1]]), np.zeros((3, 2), np.float32))
    features = RetrievalFeatures(
        ARRAYS["images"], ARRAYS["texts"], NAMES["image_ids"], NAMES["text_ids"], np.array(NAMES["owner"]), matching
    )
    features.write(tmp_path / "new" / "f.safetensors")
    read = RetrievalFeatures.read(tmp_path / "new" / "f.safetensors")
    assert np.allclose(read.images, features.images, atol=1e-6)
    assert read.owner.tolist() == NAMES["owner"]
    assert read.image_matching is not None
    assert read.image_matching.candidates.tolist() == matching.candidates.tolist()
    assert read.text_matching is None


def test_features_are_scaled_to_length_one(tmp_path: Path) -> None:
    assert np.linalg.norm(RetrievalFeatures.read(write(tmp_path)).texts, axis=1) == pytest.approx(np.ones(4))


def test_numbers_may_be_names(tmp_path: Path) -> None:
    assert RetrievalFeatures.read(write(tmp_path, image_ids=[42, 43, 44])).image_ids == ["42", "43", "44"]


def test_half_precision_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, {name: array.astype(np.float16) for name, array in ARRAYS.items()})
    assert RetrievalFeatures.read(path).images.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [
        (changed("texts", 2, np.nan), {}, "1 of the texts hold NaN or infinity; the first is 2"),
        (changed("images", 1, 0), {}, "1 of the images are zero and have no direction to compare; the first is b"),
        ({"texts": np.ones((4, 5), np.float32)}, {}, "images have 4 channels and the texts 5"),
        ({"texts": np.ones((3, 4), np.float32)}, {}, "3 features of texts and 4 ids"),
        ({"images": np.ones((3, 4), np.int64)}, {}, r"'images' is int64 of shape \[3, 4\]; it must be a matrix of"),
        ({}, {"image_ids": ["a", "b", "a"]}, "Ids of images are listed more than once: a"),
        ({}, {"text_ids": ["0", "1", "1", "3"]}, "Ids of texts are listed more than once: 1"),
        ({}, {"owner": [0, 1, 2]}, "3 owners of 4 texts"),
        ({}, {"owner": [0, 1, 2, 3]}, "owner of the text 3 is 3; it must be the index of its image, 0 to 2"),
        ({}, {"owner": [0, 1, -1, 1]}, "owner of the text 2 is -1"),
        ({}, {"owner": [0, 1, 1, 2**80]}, "owner of the text 3 is"),
        ({}, {"owner": [0, 0, 0, 1]}, "1 images have no text that finds them: c"),
        ({}, {"owner": ["a", "b", "c", "b"]}, "no list 'owner' of indices"),
        ({}, {"image_ids": None}, "no list 'image_ids' of names"),
        ({"image_candidates": np.zeros((3, 2), np.int64)}, {}, "'image_matching' is missing"),
        (
            {"image_candidates": np.array([[0, 1]] * 3), "image_matching": np.zeros((3, 3), np.float32)},
            {},
            r"shape \[3, 2\] and matching scores \[3, 3\]",
        ),
        (
            {"image_candidates": np.array([[0, 4]] * 3), "image_matching": np.zeros((3, 2), np.float32)},
            {},
            "numbered 0 to 4; there are 4, from 0",
        ),
        (
            {"image_candidates": np.array([[1, 1]] * 3), "image_matching": np.zeros((3, 2), np.float32)},
            {},
            "listed twice",
        ),
    ],
)
def test_wrong_features_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], names: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        RetrievalFeatures.read(write(tmp_path, arrays, **names))


def test_files_that_are_missing_or_broken_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(UserError, match="is no name for a feature file"):
        RetrievalFeatures.read(path.with_suffix(".json"))
    path.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=r"features\.json cannot be read"):
        RetrievalFeatures.read(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is no safetensors file"):
        RetrievalFeatures.read(path)
    path.unlink()
    with pytest.raises(UserError, match=r"features\.safetensors cannot be read"):
        RetrievalFeatures.read(path)


def test_bfloat16_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    save_tensors({name: torch.tensor(array).bfloat16() for name, array in ARRAYS.items()}, path)
    with pytest.raises(UserError, match="is no safetensors file of float32 features"):
        RetrievalFeatures.read(path)
