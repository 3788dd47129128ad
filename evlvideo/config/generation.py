"""Decoding at evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass

from evlvideo.config.settings import setting


@dataclass
class GenerationConfig:
    """Decoding at evaluation. Lengths count new tokens."""

    num_beams: int = setting(5, least=1)
    """Beams; 1 is greedy."""
    do_sample: bool = False
    """Sample captions instead of searching for the most likely one. Beams then have no effect."""
    top_p: float = setting(1.0, above=0, most=1)
    """Nucleus: sample from the most likely tokens that together have this much probability."""
    temperature: float = setting(1.0, above=0)
    """Temperature of sampling; below 1, likely tokens become likelier."""
    max_new_tokens: int = setting(20, least=1)
    """Upper bound on the tokens of a caption."""
    min_new_tokens: int = setting(5, least=0)
    """Lower bound on the tokens of a caption."""
    length_penalty: float = setting(1.0)
    """Exponent on the length in a beam's score; above 1 favours longer captions."""
    repetition_penalty: float = setting(1.0, above=0)
    """Divides the positive logits of tokens that the caption already has, and multiplies the negative ones; above 1
    discourages repetition, 1 does nothing. The published Vicuna models caption and answer with 1.5."""
    batch_size: int = setting(16, least=1)
    """Clips captioned at once."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together."""
        if self.min_new_tokens > self.max_new_tokens:
            yield (
                f"generation.min_new_tokens is {self.min_new_tokens}, more than generation.max_new_tokens, "
                f"{self.max_new_tokens}"
            )
