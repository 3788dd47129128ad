"""The table of a comparison: its numbers, how certain they are, and each form it is written in."""
