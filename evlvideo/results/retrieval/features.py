"""Feature files for retrieval: what a model made of the images (or clips) and texts of a split.

`NAME.safetensors` holds `images (N, C)` and `texts (M, C)`, float32, of any length, and `NAME.json` beside it holds
`{"image_ids": [N names], "text_ids": [M names], "owner": [for each text, the index of its image]}`. Any model's
features can be written so.

If the model can match pairs, the best candidates may come with matching scores: `image_candidates (N, k)` are indices
of texts, `image_matching (N, k)` their scores, `text_candidates` and `text_matching`, `(M, k)`, the same for images.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from evlvideo.errors import UserError, first_ten
from evlvideo.files import read_json, replacing, write_json
from evlvideo.metrics.retrieval.similarities import unit

_DIRECTIONS = ("image", "text")


@dataclass(frozen=True)
class Matching:
    """Matching scores of the best candidates of each query."""

    candidates: np.ndarray
    """Indices of different candidates, `(Q, k)`."""
    scores: np.ndarray
    """Their scores, `(Q, k)`; higher is better."""


@dataclass(frozen=True)
class RetrievalFeatures:
    """Features of a split's images and texts.

    Raises:
        UserError: they do not belong together, are not finite, or are zero.
    """

    images: np.ndarray
    """`(N, C)`; scaled to length 1 here, as float32."""
    texts: np.ndarray
    """`(M, C)`, the same."""
    image_ids: Sequence[str]
    """Name of each image or clip."""
    text_ids: Sequence[str]
    """Name of each text."""
    owner: np.ndarray
    """Index of each text's image, `(M,)`."""
    image_matching: Matching | None = None
    """Matching scores of each image's best texts."""
    text_matching: Matching | None = None
    """Matching scores of each text's best images."""

    def __post_init__(self) -> None:
        for what, features, ids in (("images", self.images, self.image_ids), ("texts", self.texts, self.text_ids)):
            _check_features(what, features, ids)
            object.__setattr__(self, what, unit(features, what, ids))
        if self.images.shape[1] != self.texts.shape[1]:
            raise UserError(
                f"The images have {self.images.shape[1]} channels and the texts {self.texts.shape[1]}; project both to "
                "one width."
            )
        _check_owner(self.owner, self.image_ids, self.text_ids)
        for matching, sizes in (
            (self.image_matching, (len(self.image_ids), len(self.text_ids))),
            (self.text_matching, (len(self.text_ids), len(self.image_ids))),
        ):
            if matching is not None:
                _check_matching(matching, *sizes)

    def write(self, path: Path) -> None:
        """Write `path`, a `.safetensors`, and the JSON beside it, each whole or not at all."""
        _check_suffix(path)
        arrays = {"images": self.images, "texts": self.texts}
        for direction, matching in zip(_DIRECTIONS, (self.image_matching, self.text_matching), strict=True):
            if matching is not None:
                arrays[f"{direction}_candidates"] = matching.candidates.astype(np.int64)
                arrays[f"{direction}_matching"] = matching.scores.astype(np.float32)
        names = {"image_ids": list(self.image_ids), "text_ids": list(self.text_ids), "owner": self.owner.tolist()}
        write_json(path.with_suffix(".json"), names)
        with replacing(path) as temporary:
            save_file(arrays, temporary)

    @classmethod
    def read(cls, path: Path) -> "RetrievalFeatures":
        """Read a feature file.

        Raises:
            UserError: it or the JSON beside it is missing, malformed or wrong.
        """
        _check_suffix(path)
        arrays, names = _read_arrays(path), _read_names(path.with_suffix(".json"))
        try:
            return cls(
                _array(arrays, "images", "f"),
                _array(arrays, "texts", "f"),
                [str(name) for name in names["image_ids"]],
                [str(name) for name in names["text_ids"]],
                np.array(names["owner"]),
                *(_matching(arrays, direction) for direction in _DIRECTIONS),
            )
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def _check_suffix(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise UserError(f"{path} is no name for a feature file; name a .safetensors, with a .json of ids beside it.")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays: dict[str, np.ndarray] = load_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:
        # NumPy has no bfloat16.
        raise UserError(f"{path} is no safetensors file of float32 features: {error}; write it again.") from error
    return arrays


def _read_names(path: Path) -> dict[str, list[Any]]:
    names = read_json(path)
    for key, kinds in (("image_ids", (str, int)), ("text_ids", (str, int)), ("owner", (int,))):
        values = names.get(key) if isinstance(names, dict) else None
        if not isinstance(values, list) or not all(type(value) in kinds for value in values):
            wanted = "indices, the image of each text" if key == "owner" else "names"
            raise UserError(f"{path} has no list {key!r} of {wanted}; see `evlvideo score-retrieval --help`.")
    found: dict[str, list[Any]] = names
    return found


def _array(arrays: Mapping[str, np.ndarray], name: str, kind: str) -> np.ndarray:
    array = arrays.get(name)
    if array is None or array.ndim != 2 or array.dtype.kind != kind:
        found = "missing" if array is None else f"{array.dtype} of shape {list(array.shape)}"
        wanted = "a matrix of float32" if kind == "f" else "a matrix of int64"
        raise UserError(f"{name!r} is {found}; it must be {wanted}.")
    return array


def _matching(arrays: Mapping[str, np.ndarray], direction: str) -> Matching | None:
    names = (f"{direction}_candidates", f"{direction}_matching")
    if not any(name in arrays for name in names):
        return None
    return Matching(_array(arrays, names[0], "i"), _array(arrays, names[1], "f"))


def _check_features(what: str, features: np.ndarray, ids: Sequence[str]) -> None:
    if not len(ids) or len(features) != len(ids):
        raise UserError(f"There are {len(features)} features of {what} and {len(ids)} ids; each needs one.")
    doubles = [name for name, count in Counter(ids).items() if count > 1]
    if doubles:
        raise UserError(f"Ids of {what} are listed more than once: {first_ten(doubles)}; keep one of each.")


def _check_owner(owner: np.ndarray, image_ids: Sequence[str], text_ids: Sequence[str]) -> None:
    if len(owner) != len(text_ids):
        raise UserError(f"There are {len(owner)} owners of {len(text_ids)} texts; each text has one image.")
    outside = np.flatnonzero((owner < 0) | (owner >= len(image_ids)))
    if len(outside):
        raise UserError(
            f"The owner of the text {text_ids[outside[0]]} is {owner[outside[0]]}; it must be the index of its image, "
            f"0 to {len(image_ids) - 1}."
        )
    without = np.setdiff1d(np.arange(len(image_ids)), owner)
    if len(without):
        names = first_ten([image_ids[number] for number in without[:11]])
        raise UserError(f"{len(without)} images have no text that finds them: {names}; leave them out, or add texts.")


def _check_matching(matching: Matching, queries: int, candidates: int) -> None:
    chosen, scores = matching.candidates, matching.scores
    if chosen.shape != scores.shape or len(chosen) != queries:
        raise UserError(
            f"Candidates have the shape {list(chosen.shape)} and matching scores {list(scores.shape)}; both need "
            f"{queries} rows of the same length."
        )
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < candidates:
        raise UserError(f"Candidates are numbered {chosen.min()} to {chosen.max()}; there are {candidates}, from 0.")
    if (np.diff(np.sort(chosen, axis=1), axis=1) == 0).any():
        raise UserError("A query's candidates are listed twice; list each once.")
