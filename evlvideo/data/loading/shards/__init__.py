"""Tar shards of captioned images and videos: indexed, counted, read and walked through in random order."""
