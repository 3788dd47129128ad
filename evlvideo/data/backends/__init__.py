"""Decoders, each a function from a file and ascending indices to frames."""
