"""Media files: read the bytes of images and videos, from files or tar shards."""
