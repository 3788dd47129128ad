"""Decoders, one file for each library."""
