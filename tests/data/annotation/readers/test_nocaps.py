import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from nocaps_annotation import TEST, TEST_NAME, VALIDATION, VALIDATION_NAME, captions_of, write_nocaps

from evlvideo.comparison.rows.references import references_of_dataset
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.splits import read_split
from evlvideo.data.verify import verify
from evlvideo.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("nocaps")
    write_nocaps(directory)
    return directory


def few(root: Path, images: list[dict[str, Any]], name: str = VALIDATION_NAME) -> None:
    captions = [
        {"id": number, "image_id": image["id"], "caption": f"c{number}"}
        for number, image in enumerate(images * 10)
        if "id" in image
    ]
    (root / name).write_text(json.dumps({"images": images, "annotations": captions}))


def test_images_have_ten_captions_and_a_domain(root: Path) -> None:
    clips = read_split("nocaps", "validate", root, check_files=False)
    assert Counter(clip.evidence for clip in clips) == VALIDATION
    first = clips[0]
    assert first.evidence is not None
    assert first == CaptionedClip(
        "0", root / "images" / f"{0:016x}.jpg", tuple(captions_of(0, first.evidence)), evidence=first.evidence
    )


def test_test_images_have_a_domain_and_no_captions(root: Path) -> None:
    clips = read_split("nocaps", "test", root, check_files=False)
    assert Counter(clip.evidence for clip in clips) == TEST
    assert clips[0].clip_id == "4500" and not clips.caption_counts().any()


@pytest.mark.parametrize(("split", "folder"), [("validate", "val"), ("test", "test")])
def test_images_may_lie_in_a_folder_of_their_part(tmp_path: Path, split: str, folder: str) -> None:
    few(tmp_path, [{"id": 7, "file_name": "x.jpg", "domain": "in-domain"}])
    few(tmp_path, [{"id": 7, "file_name": "x.jpg"}], TEST_NAME)
    (tmp_path / "images" / folder).mkdir(parents=True)
    (clip,) = read_split("nocaps", split, tmp_path, check_files=False, check_counts=False)
    assert clip.video == tmp_path / "images" / folder / "x.jpg"


def test_the_first_edition_of_the_test_images_has_no_domains(tmp_path: Path) -> None:
    write_nocaps(tmp_path)
    content = json.loads((tmp_path / TEST_NAME).read_text())
    for image in content["images"]:
        del image["domain"]
    (tmp_path / TEST_NAME).write_text(json.dumps(content))
    assert {clip.evidence for clip in read_split("nocaps", "test", tmp_path, check_files=False)} == {None}


def test_other_numbers_of_a_domain_are_refused(tmp_path: Path) -> None:
    write_nocaps(tmp_path, {"in-domain": 649, "near-domain": 2937, "out-domain": 914})
    with pytest.raises(UserError, match="has 649 in-domain, 2,937 near-domain, 914 out-domain of nocaps:validate, not"):
        read_split("nocaps", "validate", tmp_path, check_files=False)
    read_split("nocaps", "validate", tmp_path, check_files=False, check_counts=False)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"id": 1, "file_name": "x.jpg", "domain": "indoors"}, "the domain is 'indoors'; allowed: in-domain, near-"),
        ({"id": "x", "file_name": "x.jpg", "domain": "in-domain"}, "the image id is 'x'; NoCaps and its server number"),
        ({"id": 1, "domain": "in-domain"}, "has no 'file_name'"),
        ({"id": 1, "file_name": "../../x.jpg", "domain": "in-domain"}, "lies outside"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, image: dict[str, Any], message: str) -> None:
    few(tmp_path, [image])
    with pytest.raises(UserError, match=message):
        read_split("nocaps", "validate", tmp_path, check_files=False, check_counts=False)


def test_validation_images_need_domains(tmp_path: Path) -> None:
    few(tmp_path, [{"id": number, "file_name": f"{number}.jpg"} for number in range(4500)])
    with pytest.raises(UserError, match="does not name in-domain, near-domain, out-domain"):
        read_split("nocaps", "validate", tmp_path, check_files=False)


def test_nothing_is_compared_on_a_split_without_captions(root: Path) -> None:
    with pytest.raises(UserError, match="nocaps:test has no captions to score on"):
        references_of_dataset("nocaps", "test", root)


def test_both_splits_verify(tmp_path: Path) -> None:
    write_nocaps(tmp_path)
    problems = verify("nocaps", tmp_path).problems
    assert [problem for problem in problems if "caption" in problem or "domain" in problem] == []
