"""Rendered pictures with captions, in the three forms that image pre-training reads, and questions about them.

:mod:`~evlvideo.mini.images.scenes` samples pictures, :mod:`~evlvideo.mini.images.questions` asks about them, and
:mod:`~evlvideo.mini.images.build` writes tar shards, a LAVIS list, and a part in the layout of COCO and VQAv2.
"""
