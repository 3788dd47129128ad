"""Stored outputs of a frozen vision tower: what they depend on, and the files that hold them."""
