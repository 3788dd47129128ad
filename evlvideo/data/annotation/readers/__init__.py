"""Readers of annotation files, one module per format.

Each has a `read(root, media_root, split)` that yields the clips of the split in the order of the annotation. It raises
:class:`evlvideo.errors.UserError` with the file and the line or entry at the first error.
"""
