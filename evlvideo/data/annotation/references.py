"""Read reference captions from a file."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.caption_files import JsonObject, read_content, read_pairs
from evlvideo.data.annotation.readers import msrvtt, msvd
from evlvideo.data.annotation.readers.captions_by_clip import CaptionsByClip
from evlvideo.data.annotation.readers.fields import clip_name, needed, one_caption
from evlvideo.data.annotation.readers.text_files import json_entries
from evlvideo.errors import UserError


def read_references(path: Path) -> dict[str, list[str]]:
    """Read the reference captions of every clip of a file.

    Reads MSR-VTT's official JSON; `{"images": [{"id"}], "annotations": [{"image_id", "caption"}]}`; MSVD's
    `AllVideoDescriptions.txt`; and the forms of :mod:`evlvideo.data.annotation.caption_files`, of which
    `{clip id: caption}` alone has predictions. Captions of one id are references of one clip. Ids become strings.

    Raises:
        UserError: the file has none of these forms, has captions of an unlisted clip, or a clip without captions.
    """
    if path.name == msvd.DESCRIPTIONS:
        return msvd.read_descriptions(path)
    content = read_content(path)
    if is_official(content):
        return {clip.clip_id: list(clip.captions) for clip, _ in msrvtt.read_official(path, path.parent)}
    if isinstance(content, dict) and content.keys() >= {"images", "annotations"}:
        return _of_images(path, content)
    if isinstance(content, JsonObject):
        _check_lists(path, content)
    references = defaultdict(list)
    for clip_id, caption in read_pairs(path):
        references[clip_id].append(caption)
    if not references:
        raise UserError(f"{path} holds no clips; give references.")
    return dict(references)


def is_official(content: Any) -> bool:
    """Return whether the content of a file has MSR-VTT's form, which names splits."""
    return isinstance(content, dict) and content.keys() >= {"videos", "sentences"}


def _of_images(path: Path, content: dict[str, Any]) -> dict[str, list[str]]:
    ids = [clip_name(place, needed(place, image, "id")) for place, image in json_entries(path, content, "images")]
    captions = CaptionsByClip()
    for place, entry in json_entries(path, content, "annotations"):
        clip_id = clip_name(place, needed(place, entry, "image_id"))
        captions.add(clip_id, one_caption(place, needed(place, entry, "caption")))
    return dict(zip(ids, map(list, captions.of_clips(path, ids)), strict=True))


def _check_lists(path: Path, content: JsonObject) -> None:
    if content and all(isinstance(captions, str) for captions in content.values()):
        raise UserError(
            f"{path}: {next(iter(content))!r} does not hold a list of captions; predictions have one text for each "
            "clip, references a list: {clip id: [caption, …]}."
        )
