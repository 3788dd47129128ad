import errno
import gc
from collections.abc import Iterator

import pytest

from evlvideo.metrics.java import find_java
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.scoring import score_captions

pytestmark = pytest.mark.skipif(find_java() is None, reason="needs a Java runtime")


@pytest.fixture(scope="module")
def meteor() -> Iterator[MeteorProcess]:
    with MeteorProcess() as process:
        yield process


def test_caption_without_words_scores_zero_and_counts(meteor: MeteorProcess) -> None:
    references = {0: ["a man plays"], 1: ["a dog runs"]}
    both = meteor.score({0: ["a man plays"], 1: ["a dog runs"]}, references)
    one = meteor.score({0: ["a man plays"], 1: [""]}, references)
    assert both is not None and both[0] == 1
    assert one is not None and one[1] == [1, 0]
    assert one[0] < 0.6


def test_separator_in_a_reference_is_no_separator(meteor: MeteorProcess) -> None:
    scored = meteor.score({0: ["a man"]}, {0: ["a dog ||| a man"]})
    assert scored is not None
    assert scored[0] < 1


def test_one_process_serves_many_evaluations(meteor: MeteorProcess, capfd: pytest.CaptureFixture[str]) -> None:
    references = {"clip": ["a man plays the guitar"]}
    first, again = (
        score_captions({"clip": "a man plays a guitar"}, references, ["meteor"], "python", meteor=meteor)
        for _ in range(2)
    )
    assert first == again
    assert 0 < first.corpus["meteor"] < 1
    assert first.corpus["meteor"] == first.per_clip["clip"]["meteor"]
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_program_that_takes_too_long_is_ended() -> None:
    process = MeteorProcess(limit_seconds=0.01)
    program = process._scorer.meteor_p
    assert process.score({0: ["a man"]}, {0: ["a man"]}) is None
    assert process.failure is not None and "took more than" in process.failure
    assert program.poll() is not None
    assert process.score({0: ["a man"]}, {0: ["a man"]}) is None


def test_no_process_is_left() -> None:
    with MeteorProcess() as process:
        program = process._scorer.meteor_p
    assert program.poll() is not None
    gc.collect()
    assert process.failure == "its Java program was closed"


def test_numbers_are_read_in_a_locale_with_a_decimal_comma(
    meteor: MeteorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE -Dfile.encoding=US-ASCII")
    texts = {0: ["a man plays in the café"]}, {0: ["the man plays in a café", "a man is in a bar"]}
    with MeteorProcess() as elsewhere:
        assert elsewhere.score(*texts) == meteor.score(*texts)


def test_a_program_that_cannot_be_started_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("subprocess.Popen", fail)
    process = MeteorProcess()
    assert process.score({0: ["a man"]}, {0: ["a man"]}) is None
    assert process.failure == "its Java program could not be started: Cannot allocate memory"
