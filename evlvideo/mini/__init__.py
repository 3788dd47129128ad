"""A rendered data set in MSR-VTT's own layout: small clips of moving and changing objects, with captions.

:mod:`~evlvideo.mini.world` draws scenes from a seed, :mod:`~evlvideo.mini.render` draws their frames,
:mod:`~evlvideo.mini.captions` says what can be seen in them, and :mod:`~evlvideo.mini.build` writes clips and
annotations to disk.
"""
