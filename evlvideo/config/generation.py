"""Decoding at evaluation."""

from dataclasses import dataclass


@dataclass
class GenerationConfig:
    """Decoding at evaluation. Lengths count new tokens."""

    num_beams: int = 5
    """Beams; 1 is greedy."""
    do_sample: bool = False
    """Draw captions at random, in place of searching for the likeliest; then beams are of no effect."""
    top_p: float = 1.0
    """Nucleus: draw from the likeliest tokens that have this much probability together."""
    temperature: float = 1.0
    """Temperature of drawing: below 1, likely tokens are drawn more often still."""
    max_new_tokens: int = 20
    """Most tokens of a caption."""
    min_new_tokens: int = 5
    """Fewest tokens of a caption."""
    length_penalty: float = 1.0
    """Exponent on the length in a beam's score; above 1 favours longer captions."""
    batch_size: int = 16
    """Clips captioned at once."""
