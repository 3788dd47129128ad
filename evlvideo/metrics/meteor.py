"""METEOR by pycocoevalcap's Java program: started early, shared by evaluations, and always ended."""

from contextlib import suppress
from threading import Timer
from types import TracebackType
from typing import Any, Self

from evlvideo.metrics.java import NO_JAVA, java_on_path

Texts = dict[int, list[str]]
"""Clip index → tokenized texts."""


class MeteorProcess:
    """METEOR's Java program, as a context manager.

    The program starts with the object and reads its tables for 5 to 10 seconds on one core; only the first score waits
    for it. So create the object before captions are generated. It takes about 0.6 GB of memory.

    Modifications to pycocoevalcap's class: the program is ended after a time limit, after an error and at exit. In the
    original, an error leaves a lock taken and the interpreter hangs at exit.

    Args:
        limit_seconds: time limit of one call of :meth:`score`; a fifth of a second is added for each clip.
    """

    def __init__(self, limit_seconds: float = 300) -> None:
        self.limit_seconds = limit_seconds
        self.failure: str | None = None
        """Why there are no scores. None while there can be."""
        self._scorer: Any = None
        with java_on_path(options="-XX:+UseSerialGC") as java:
            if java is None:
                self.failure = NO_JAVA
            else:
                self._start()

    def _start(self) -> None:
        from pycocoevalcap.meteor.meteor import Meteor

        class Scorer(Meteor):
            def __del__(self) -> None:
                """Leave the end to `close`: after an exception, the original would wait forever for its own lock."""

        try:
            self._scorer = Scorer()
        except OSError as error:
            self.failure = f"its Java program could not be started: {error.strerror or error}"

    def score(self, hypotheses: Texts, references: Texts) -> tuple[float, list[float]] | None:
        """Return the corpus score and the score of each clip, or None with the reason in :attr:`failure`."""
        if self._scorer is None:
            return None
        # The program reads one line, with its texts separated by three bars.
        references = {index: [text.replace("|||", "") for text in group] for index, group in references.items()}
        limit_seconds = self.limit_seconds + len(references) / 5
        guard = Timer(limit_seconds, self._scorer.meteor_p.kill)
        guard.daemon = True
        guard.start()
        try:
            corpus, per_clip = self._scorer.compute_score(references, hypotheses)
        except (OSError, ValueError):
            # A closed pipe, or an empty line instead of a number: the program has ended.
            self.close()
            self.failure = f"its Java program failed, or took more than {limit_seconds:.0f} seconds"
            return None
        except BaseException:
            self.close()
            raise
        finally:
            guard.cancel()
        return float(corpus), [float(score) for score in per_clip]

    def close(self) -> None:
        """End the program. Further scores are None."""
        scorer, self._scorer = self._scorer, None
        if scorer is None:
            return
        self.failure = "its Java program was closed"
        scorer.meteor_p.kill()
        for pipe in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
            with suppress(OSError):
                pipe.close()
        scorer.meteor_p.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
