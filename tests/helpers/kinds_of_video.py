"""Kinds of video files that decoders see: container, codec and what makes each of them difficult."""

from typing import Any

HEVC = {"x265-params": "log-level=none"}
OPEN_HEVC = {"x265-params": "log-level=none:keyint=24:min-keyint=24:open-gop=1"}
OPEN_H264 = {"x264-params": "keyint=28:open-gop=1:bframes=4:b-adapt=0"}
PYRAMID = {"x264-params": "keyint=40:bframes=8:b-adapt=0:b-pyramid=normal"}
REFRESH = {"x264-params": "keyint=30:intra-refresh=1"}
VPX = {"g": "30", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "8"}
UNEVEN = [40 * number + (7 * number * number) % 33 for number in range(90)]

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "closed groups": ("mp4", {"options": {"g": "30"}}),
    "deep pyramid of B-frames": ("mp4", {"options": PYRAMID}),
    "open groups": ("mp4", {"options": OPEN_H264}),
    "open groups in mkv": ("mkv", {"options": OPEN_H264}),
    "open groups in ts": ("ts", {"options": OPEN_H264}),
    "no keyframe but the first": ("mp4", {"options": REFRESH}),
    "no times": ("avi", {"options": {"bf": "3", "g": "30"}}),
    "flash": ("flv", {"options": {"g": "30"}}),
    "ten bits": ("mp4", {"options": {"g": "30"}, "pix_fmt": "yuv420p10le"}),
    "uneven times": ("mp4", {"options": {"g": "30"}, "times": UNEVEN}),
    "hevc": ("mp4", {"codec": "libx265", "options": HEVC}),
    "hevc with open groups": ("mp4", {"codec": "libx265", "options": OPEN_HEVC}),
    "hevc of ten bits": ("mkv", {"codec": "libx265", "options": OPEN_HEVC, "pix_fmt": "yuv420p10le"}),
    "hidden frames of vp8": ("webm", {"codec": "libvpx", "options": VPX}),
    "vp9": ("webm", {"codec": "libvpx-vp9", "options": VPX}),
    "av1": ("mp4", {"codec": "libsvtav1", "options": {"g": "30", "preset": "10", "svtav1-params": "irefresh-type=1"}}),
    "divx": ("avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "30"}}),
    "mpeg4": ("mp4", {"codec": "mpeg4", "options": {"bf": "2", "g": "30"}}),
    "mpeg2": ("ts", {"codec": "mpeg2video", "options": {"bf": "2", "g": "15"}}),
    "mpeg1": ("mpg", {"codec": "mpeg1video", "options": {"bf": "2", "g": "15"}}),
    "pictures": ("mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "gif": ("gif", {"codec": "gif", "pix_fmt": "rgb8"}),
}
FRAMES = 90
