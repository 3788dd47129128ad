"""Bytes of images and videos, in files or in tar shards."""
