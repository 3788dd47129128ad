"""NoCaps' annotation in its official form, rendered: ids and domains of all images, with invented captions."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VALIDATION = {"in-domain": 648, "near-domain": 2938, "out-domain": 914}
TEST = {"in-domain": 1311, "near-domain": 7406, "out-domain": 1883}
VALIDATION_NAME, TEST_NAME = "nocaps_val_4500_captions.json", "nocaps_test_image_info.json"
_THINGS = {
    "in-domain": ("dog", "car", "man", "table", "horse"),
    "near-domain": ("dog with a hat", "man and a lantern", "car beside a snail", "table with a lobster"),
    "out-domain": ("lobster", "accordion", "snail", "jellyfish", "lantern", "tank", "seahorse"),
}
_PLACES = ("on a beach", "in a room", "in front of a house", "under a tree", "at night", "on a white background")
_FORMS = ("a {} {}", "a small {} {}", "there is a {} {}", "a picture of a {} {}", "one {} standing {}")


def write_nocaps(root: Path, sizes: Mapping[str, int] = VALIDATION, test_sizes: Mapping[str, int] = TEST) -> None:
    """Write both files."""
    root.mkdir(parents=True, exist_ok=True)
    images = _images(sizes, "validation", first=0)
    annotations = [
        {"id": 10 * image["id"] + number, "image_id": image["id"], "caption": caption}
        for image in images
        for number, caption in enumerate(captions_of(image["id"], image["domain"]))
    ]
    licenses: list[Any] = [{"url": "https://creativecommons.org/licenses/by/2.0/", "id": 0, "name": "CC BY 2.0"}]
    whole = {"licenses": licenses, "info": {"version": "0.1"}, "images": images, "annotations": annotations}
    (root / VALIDATION_NAME).write_text(json.dumps(whole))
    of_test = _images(test_sizes, "test", first=len(images))
    (root / TEST_NAME).write_text(json.dumps({"licenses": licenses, "info": {"version": "0.1"}, "images": of_test}))


def captions_of(image_id: int, domain: str, count: int = 10) -> list[str]:
    """Captions of an image: of one thing, in one or two places, in several words."""
    draw = random.Random(image_id)
    thing, places = draw.choice(_THINGS[domain]), draw.sample(_PLACES, 2)
    return [f"{draw.choice(_FORMS)} .".format(thing, draw.choice(places)) for _ in range(count)]


def domains_of(sizes: Mapping[str, int]) -> list[str]:
    """The domain of each image; neighbors differ."""
    domains = [domain for domain, count in sizes.items() for _ in range(count)]
    random.Random(0).shuffle(domains)
    return domains


def _images(sizes: Mapping[str, int], part: str, *, first: int) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "open_images_id": f"{number:016x}",
            "file_name": f"{number:016x}.jpg",
            "coco_url": f"https://s3.amazonaws.com/nocaps/{part}/{number:016x}.jpg",
            "width": 1024,
            "height": 768,
            "date_captured": "2018-11-06 11:04:33",
            "license": 0,
            "domain": domain,
        }
        for number, domain in enumerate(domains_of(sizes), start=first)
    ]
