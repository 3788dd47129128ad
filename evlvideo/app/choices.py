"""What the page asks of a checkpoint."""

from dataclasses import dataclass, replace

from evlvideo.config.generation import AnsweringConfig, GenerationConfig
from evlvideo.config.run import MOST_SEED, RunConfig
from evlvideo.errors import UserError

MOST_CAPTIONS = 10
MOST_BEAMS = 10
MOST_TOKENS = 100
LEAST = 0.01
"""Lowest temperature and top-p."""
MOST_TEMPERATURE = 2.0
MOST_CHARACTERS = 1000
"""Those of a prompt or a question."""


@dataclass(frozen=True, slots=True)
class Choices:
    """How to caption a file, or what to ask about it. Many people may share a machine, so that everything is bounded.

    Raises:
        UserError: a value is out of its bounds, or there are more captions than beams.
    """

    captions: int = 1
    """Captions or answers to give."""
    num_beams: int = 5
    do_sample: bool = False
    """Sample instead of searching. Beams then have no effect."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    """Upper bound on the tokens of a caption. Defaults to the checkpoint's own."""
    seed: int = 42
    """Seeds sampling."""
    prompt: str = ""
    """Text that every caption continues. Empty for the checkpoint's own."""
    question: str = ""
    """Empty to caption. The prompt has no effect beside it."""

    def __post_init__(self) -> None:
        _check("The number of captions", self.captions, 1, MOST_CAPTIONS)
        _check("The number of beams", self.num_beams, 1, MOST_BEAMS)
        _check("The longest caption, in tokens,", self.max_new_tokens or 1, 1, MOST_TOKENS)
        _check("The temperature", self.temperature, LEAST, MOST_TEMPERATURE)
        _check("Top-p", self.top_p, LEAST, 1)
        _check("The seed", self.seed, 0, MOST_SEED)
        _check("The number of characters of the prompt", len(self.prompt), 0, MOST_CHARACTERS)
        _check("The number of characters of the question", len(self.question), 0, MOST_CHARACTERS)
        if self.captions > self.num_beams and not self.do_sample:
            raise UserError(
                f"{self.captions} captions need as many beams, but there are {self.num_beams}: use more beams, ask for "
                "fewer captions, or sample."
            )

    @property
    def asks(self) -> bool:
        """Whether a question is to be answered."""
        return bool(self.question.strip())

    def decoding(self, config: RunConfig) -> GenerationConfig | AnsweringConfig:
        """Return a run's decoding of captions or, if something is asked, of answers, with these choices."""
        own = config.answering if self.asks else config.generation
        longest = self.max_new_tokens or own.max_new_tokens
        return replace(
            own,
            num_beams=self.num_beams,
            do_sample=self.do_sample,
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=longest,
            min_new_tokens=min(own.min_new_tokens, longest),
        )


def _check(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UserError(f"{what} is {value:g}; allowed: {least:g} to {most:g}.")
