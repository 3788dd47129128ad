"""Decoders, one file per library."""
