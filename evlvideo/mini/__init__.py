"""A rendered dataset in MSR-VTT's layout: small clips of moving and changing objects, with captions.

:mod:`~evlvideo.mini.world` samples scenes from a seed, :mod:`~evlvideo.mini.render` renders their frames,
:mod:`~evlvideo.mini.captions` describes them, and :mod:`~evlvideo.mini.build` writes clips and annotations to disk.
"""
