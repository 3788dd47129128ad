"""Read reference captions from a file."""

from pathlib import Path

from evlvideo.data.annotation.readers import msrvtt
from evlvideo.data.annotation.readers.captions_by_clip import CaptionsByClip
from evlvideo.data.annotation.readers.fields import clip_name, needed, one_caption
from evlvideo.data.annotation.readers.text_files import json_entries, read_json_object
from evlvideo.errors import UserError


def read_references(path: Path) -> dict[str, list[str]]:
    """Read the reference captions of every clip of a file.

    Reads three formats: MSR-VTT's official JSON; `{"images": [{"id"}], "annotations": [{"image_id", "caption"}]}`; and
    `{clip id: [caption, …]}`. Ids become strings.

    Raises:
        UserError: the file has none of these formats, has captions of an unlisted clip, or a clip without captions.
    """
    content = read_json_object(path)
    if content.keys() >= {"videos", "sentences"}:
        return {clip.clip_id: list(clip.captions) for clip, _ in msrvtt.read_official(path, path.parent)}
    if content.keys() >= {"images", "annotations"}:
        images = json_entries(path, content, "images")
        ids = [clip_name(place, needed(place, image, "id")) for place, image in images]
        captions = CaptionsByClip()
        for place, entry in json_entries(path, content, "annotations"):
            clip_id = clip_name(place, needed(place, entry, "image_id"))
            captions.add(clip_id, one_caption(place, needed(place, entry, "caption")))
        return dict(zip(ids, map(list, captions.of_clips(path, ids)), strict=True))
    if not content:
        raise UserError(f"{path} holds no clips; give references.")
    for clip_id, captions in content.items():
        if not isinstance(captions, list) or not captions or not all(isinstance(text, str) for text in captions):
            raise UserError(
                f"{path}: {clip_id!r} does not hold a list of captions. References are MSR-VTT's official JSON, "
                'a COCO-like file with "images" and "annotations", or {clip id: [caption, …]}.'
            )
    return content
