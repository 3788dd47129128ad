"""Decoders, one module per library."""
