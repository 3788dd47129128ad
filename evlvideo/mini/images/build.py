"""Write the mini images to disk: tar shards, a LAVIS list, and a part in the layout of COCO with questions.

The directory holds

    mini_images.json                      seed and sizes
    shards/00000.tar …                    webdataset: 000000000.jpg, 000000000.json with `caption`
    lavis/annotations/cap_train.json      LAVIS' list
    lavis/images/picture00000.jpg …
    annotations/dataset_coco.json         Karpathy's form, train, val and test
    annotations/v2_….json                 VQAv2's form, two files a split
    questions.jsonl                       the same questions in our own form
    captions.jsonl                        the same with their answers, as texts to train on
    images/train2014/COCO_train2014_000000000001.jpg …
"""

import io
import json
import random
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from evlvideo.cache import cache_directory
from evlvideo.files import write_json, write_text
from evlvideo.mini.captions import write_picture_captions
from evlvideo.mini.images.questions import AskedQuestion, ask
from evlvideo.mini.images.scenes import sample_picture
from evlvideo.mini.once import build_once
from evlvideo.mini.render import render_clip
from evlvideo.mini.world import Scene
from evlvideo.progress import Progress

FORMAT_VERSION = 1
"""Increase it if the same seed gives other pictures, captions or questions."""
SIZES = {"shards": 3000, "lavis": 800, "train": 400, "validate": 100, "test": 300}
"""Pictures in the shards, in the LAVIS list, and in each split of the COCO-like part."""
SHARDS, LAVIS = "shards", "lavis"
"""Folders of the parts that are only trained on."""
CAPTIONS_PER_PICTURE = 5
"""Captions of a picture of the COCO-like part; those of the other parts have one."""
PICTURES_PER_SHARD = 1000
QUESTIONS_PER_PICTURE = 3

_QUESTION_IDS = 1000
"""Ids of questions for each image, as VQAv2 numbers them."""
_FACTS_FILE = "mini_images.json"
_JPEG_QUALITY = 95
_COCO_PARTS = {"train": "train2014", "validate": "val2014", "test": "test2015"}
"""COCO's name of each split, in the names of files and folders."""
_KARPATHY_SPLITS = {"train": "train", "validate": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of one part, and what is said and asked about it."""

    scene: Scene
    captions: list[str]
    questions: list[AskedQuestion]

    def jpeg(self) -> bytes:
        """Render it."""
        content = io.BytesIO()
        Image.fromarray(render_clip(self.scene)[0]).save(content, "JPEG", quality=_JPEG_QUALITY)
        return content.getvalue()


def mini_images_root(seed: int = 0) -> Path:
    """Return the directory of the dataset in the cache; see :func:`evlvideo.cache.cache_directory`."""
    return cache_directory() / f"mini_images-{FORMAT_VERSION}-{seed}"


def build_mini_images(
    root: Path | None = None, seed: int = 0, progress: bool = True, sizes: Mapping[str, int] = SIZES
) -> Path:
    """Render the dataset, unless `root` has it already.

    The same seed gives the same files. The directory appears only when it is complete. If two processes render at once,
    the slower one uses the result of the faster.

    Args:
        root: directory of the dataset. Defaults to :func:`mini_images_root`.
        seed: seed of pictures, captions and questions.
        progress: whether to show a progress bar on standard error.
        sizes: number of pictures, with the keys of :data:`SIZES`.

    Returns:
        the directory.

    Raises:
        UserError: `root` holds something else, or cannot be written.
    """
    facts = {"version": FORMAT_VERSION, "seed": seed, "sizes": dict(sizes)}
    root = mini_images_root(seed) if root is None else root
    console = Console(stderr=True) if progress else None
    return build_once(root, "mini image dataset", _FACTS_FILE, facts, lambda building: _build(building, facts, console))


def sample_item(part: str, index: int, seed: int = 0) -> Picture:
    """Sample one picture of a part, a key of :data:`SIZES`: a pure function of the arguments."""
    rng = random.Random(f"mini_images/{FORMAT_VERSION}/{seed}/{part}/{index}")
    trained_on_only = part in (SHARDS, LAVIS)
    scene = sample_picture(rng, "train" if trained_on_only else part)
    captions = write_picture_captions(scene, rng, 1 if trained_on_only else CAPTIONS_PER_PICTURE)
    questions = [] if trained_on_only else ask(scene, rng, index)
    return Picture(scene, [caption.text for caption in captions], questions)


def _build(root: Path, facts: dict[str, Any], console: Console | None) -> None:
    with Progress("rendering the mini images", sum(facts["sizes"].values()), console=console) as rendered:
        for write in (_write_shards, _write_lavis, _write_coco):
            for _ in write(root, facts):
                rendered.advance()


def _pictures(part: str, facts: dict[str, Any]) -> Iterator[tuple[int, Picture]]:
    return ((index, sample_item(part, index, facts["seed"])) for index in range(facts["sizes"][part]))


def _write_shards(root: Path, facts: dict[str, Any]) -> Iterator[None]:
    folder = root / SHARDS
    folder.mkdir()
    for first in range(0, facts["sizes"][SHARDS], PICTURES_PER_SHARD):
        number = first // PICTURES_PER_SHARD
        with tarfile.open(folder / f"{number:05}.tar", "w") as archive:
            for index in range(first, min(first + PICTURES_PER_SHARD, facts["sizes"][SHARDS])):
                picture = sample_item(SHARDS, index, facts["seed"])
                key = f"{number:05}{index - first:04}"
                _add(archive, f"{key}.jpg", picture.jpeg())
                _add(archive, f"{key}.json", json.dumps({"caption": picture.captions[0], "key": key}).encode())
                yield


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member without time and owner, so that the same content gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _write_lavis(root: Path, facts: dict[str, Any]) -> Iterator[None]:
    folder = root / LAVIS
    (folder / "images").mkdir(parents=True)
    entries = []
    for index, picture in _pictures(LAVIS, facts):
        name = f"picture{index:05}.jpg"
        (folder / "images" / name).write_bytes(picture.jpeg())
        entries.append({"image": name, "caption": picture.captions[0]})
        yield
    write_json(folder / "annotations" / "cap_train.json", entries)


def _write_coco(root: Path, facts: dict[str, Any]) -> Iterator[None]:
    images: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for split, part in _COCO_PARTS.items():
        (root / "images" / part).mkdir(parents=True)
        of_split: list[tuple[int, AskedQuestion]] = []
        for _, picture in _pictures(split, facts):
            image_id = len(images) + 1
            name = f"COCO_{part}_{image_id:012}.jpg"
            image = f"images/{part}/{name}"
            (root / image).write_bytes(picture.jpeg())
            images.append(_karpathy_entry(image_id, part, name, split, picture.captions))
            asked = list(enumerate(picture.questions, start=_QUESTION_IDS * image_id))
            of_split += asked
            lines += _own_lines(image, split, asked)
            with_answers = [question.with_answer for question in picture.questions]
            texts.append({"image": image, "captions": with_answers, "split": split})
            yield
        _write_questions(root, part, of_split)
    write_json(root / "annotations" / "dataset_coco.json", {"dataset": "mini_images", "images": images})
    for name, entries in (("questions.jsonl", lines), ("captions.jsonl", texts)):
        write_text(root / name, "".join(f"{json.dumps(entry)}\n" for entry in entries))


def _karpathy_entry(image_id: int, part: str, name: str, split: str, captions: list[str]) -> dict[str, Any]:
    first = image_id * CAPTIONS_PER_PICTURE
    sentences = [
        {"tokens": text.split(), "raw": text, "imgid": image_id - 1, "sentid": first + number}
        for number, text in enumerate(captions)
    ]
    return {
        "filepath": part,
        "filename": name,
        "imgid": image_id - 1,
        "cocoid": image_id,
        "split": _KARPATHY_SPLITS[split],
        "sentids": [sentence["sentid"] for sentence in sentences],
        "sentences": sentences,
    }


def _write_questions(root: Path, part: str, asked: list[tuple[int, AskedQuestion]]) -> None:
    """Write VQAv2's two files of a split. `asked` are questions with their ids."""
    facts = {
        "info": {"description": "evlvideo mini images: rendered pictures in the layout of VQAv2"},
        "data_type": "mscoco",
        "data_subtype": part,
    }
    questions = [{**_ids(question_id), "question": question.text} for question_id, question in asked]
    annotations = [{**_ids(question_id), **_annotation(question)} for question_id, question in asked]
    folder = root / "annotations"
    write_json(
        folder / f"v2_OpenEnded_mscoco_{part}_questions.json",
        {**facts, "task_type": "Open-Ended", "questions": questions},
    )
    write_json(folder / f"v2_mscoco_{part}_annotations.json", {**facts, "annotations": annotations})


def _ids(question_id: int) -> dict[str, int]:
    return {"image_id": question_id // _QUESTION_IDS, "question_id": question_id}


def _annotation(question: AskedQuestion) -> dict[str, Any]:
    answers = [
        {"answer_id": place, "answer": answer, "answer_confidence": "yes"}
        for place, answer in enumerate(question.answers, start=1)
    ]
    return {
        "question_type": question.question_type,
        "answer_type": question.answer_type,
        "multiple_choice_answer": question.most_common,
        "answers": answers,
    }


def _own_lines(image: str, split: str, asked: list[tuple[int, AskedQuestion]]) -> list[dict[str, Any]]:
    return [
        {
            "image": image,
            "question": question.text,
            "answers": list(question.answers),
            "split": split,
            "id": question_id,
            "answer_type": question.answer_type,
            "question_type": question.question_type,
        }
        for question_id, question in asked
    ]
