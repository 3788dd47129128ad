"""Readers of annotation files, one file a format.

Each has a `read(root, media_root, split)` that gives the split's clips in the order of the annotation, and raises
:class:`evlvideo.errors.UserError` with file and line or entry at the first one that is wrong.
"""
