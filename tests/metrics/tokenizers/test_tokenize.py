import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.errors import UserError
from evlvideo.metrics.java import find_java
from evlvideo.metrics.tokenizers import ptb
from evlvideo.metrics.tokenizers import tokenize as tokenization
from evlvideo.metrics.tokenizers.light import PUNCTUATION, light_tokenize
from evlvideo.metrics.tokenizers.tokenize import clean, tokenize, tokenize_lines

MSRVTT = Path(__file__).parents[4] / "shared" / "data" / "msrvtt"
needs_java = pytest.mark.skipif(find_java() is None, reason="needs a Java runtime")

WORDS = {
    "A man is Playing a guitar.": "a man is playing a guitar",
    "a man don't, can't and won't": "a man do n't ca n't and wo n't",
    "the dog's bowl and the dogs' bowls": "the dog 's bowl and the dogs bowls",
    "they've said he'll, I'm, we'd and it’s": "they 've said he 'll i 'm we 'd and it 's",
    "he cannot, is gonna and wanna": "he can not is gon na and wan na",
    "a well-known t-shirt - or two -- maybe": "a well-known t-shirt or two maybe",
    "1,000.50 or 3.14 at 10:30, 24/7": "1,000.50 or 3.14 at 10:30 24/7",
    "at 10:30pm": "at 10:30 pm",
    "100% of $20 and #1": "100 % of $ 20 and # 1",
    "a man (in a hat) [red] {x}": "a man -lrb- in a hat -rrb- -lsb- red -rsb- -lcb- x -rcb-",
    "mr. smith of the u.s. army at 5 p.m.": "mr. smith of the u.s. army at 5 p.m.",
    "no. 5 says no. to that": "no. 5 says no to that",
    "\"quoted\" and 'quoted' and “quoted” and `quoted`": "quoted and quoted and quoted and quoted",
    "what?! wait... go!!": "what ?! wait go !!",
    "a/b and/or w/": "a/b and/or w /",
    "r&b, R&B and &amp;": "r & b r&b and &",
    "o'clock in the '90s, rock 'n' roll": "o'clock in the '90s rock 'n' roll",
    "café naïve señor": "café naïve señor",
    "cutting ½ an apple": "cutting 1/2 an apple",
    "write to me@example.com or www.example.com.": "write to me@example.com or www.example.com",
    "a man,a woman;a dog:end": "a man a woman a dog end",
    "smile :) now": "smile :-rrb- now",
    "thumbs up 👍": "thumbs up",
    "!?.": "!?",
    "...": "",
    "": "",
}


@pytest.mark.parametrize("caption", WORDS)
def test_words_of_a_caption(caption: str) -> None:
    assert light_tokenize(caption) == WORDS[caption]


@needs_java
def test_both_tokenizers_agree() -> None:
    python, ptb = (tokenize_lines(list(WORDS), name) for name in ("python", "ptb"))
    # A fraction holds a no-break space in PTB's own output; scorers split there as well.
    assert [line.split() for line in python] == [line.split() for line in ptb]


# What else is known to differ: caption → words of the light tokenizer, words of PTB.
DIFFERENT = {
    "chilli-1/2 cup": ("chilli-1/2 cup", "chilli-1 / 2 cup"),
    "#tag_one": ("#tag_one", "#tag _ one"),
    "US$5": ("us $ 5", "us$ 5"),
    "u.s.-based": ("u.s. based", "u.s.-based"),
    "m²": ("m²", "m ²"),
    "fig. 5": ("fig 5", "fig. 5"),
    "don'tcha": ("don tcha", "do n'tcha"),
    "d’or": ("d'or", "d’or"),
}


@needs_java
def test_known_differences() -> None:
    python, ptb = (tokenize_lines(list(DIFFERENT), name) for name in ("python", "ptb"))
    assert dict(zip(DIFFERENT, zip(python, ptb, strict=True), strict=True)) == DIFFERENT


@given(st.text(max_size=60))
def test_any_text_becomes_single_spaced_words(text: str) -> None:
    line = light_tokenize(clean(text))
    assert line == " ".join(line.split())
    assert not PUNCTUATION & set(line.split())


@given(st.text(max_size=60))
def test_clean_text_is_one_line(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned.splitlines()) <= 1
    assert cleaned == cleaned.strip()
    cleaned.encode("utf-8")


AWKWARD = ["\r", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x00", "\x1a", "\ufeff", "\ud800", "\u00a0"]


@pytest.mark.parametrize("tokenizer", ["python", pytest.param("ptb", marks=needs_java)])
def test_no_character_shifts_another_caption(tokenizer: str) -> None:
    captions = {f"clip{i}": [f"one{symbol}two", "", f"{symbol}", f"last {i}"] for i, symbol in enumerate(AWKWARD)}
    tokenized = tokenize(captions, tokenizer)
    assert list(tokenized) == list(captions)
    assert [group[3] for group in tokenized.values()] == [f"last {i}" for i in range(len(AWKWARD))]
    assert [len(group) for group in tokenized.values()] == [4] * len(AWKWARD)


@pytest.mark.parametrize("captions", [[], [""], ["", ""], ["", "a", ""]])
@pytest.mark.parametrize("tokenizer", ["python", pytest.param("ptb", marks=needs_java)])
def test_empty_captions_stay_in_place(tokenizer: str, captions: list[str]) -> None:
    assert tokenize_lines(captions, tokenizer) == captions


@needs_java
def test_lines_that_do_not_come_back_stop_the_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "clean", lambda caption: caption)
    with pytest.raises(RuntimeError, match="3 lines for 2 captions"):
        tokenize_lines(["a\rb", "c"], "ptb")


def test_punctuation_is_that_of_the_metrics() -> None:
    wrapper = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    assert set(wrapper.PUNCTUATIONS) == PUNCTUATION


def test_unknown_tokenizer() -> None:
    with pytest.raises(UserError, match=r"'moses' is unknown; allowed: ptb, python"):
        tokenize_lines(["a"], "moses")


@needs_java
def test_ptb_needs_no_place_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program cannot read a path with a space; nor is there one that can be written to in some containers."""
    wanted = tokenize_lines(["a café, 1,5 km away", "it's a man"], "ptb")
    for directory in (tmp_path / "a b", tmp_path / "missing"):
        monkeypatch.setenv("TMPDIR", str(directory))
        monkeypatch.setattr("tempfile.tempdir", str(directory))
        assert tokenize_lines(["a café, 1,5 km away", "it's a man"], "ptb") == wanted
    assert wanted == ["a café 1,5 km away", "it 's a man"]


def test_ptb_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tokenization, ptb):
        monkeypatch.setattr(module, "find_java", lambda: None)
    assert tokenization.default_tokenizer() == "python"
    with pytest.raises(UserError, match="no Java runtime"):
        tokenize_lines(["a"], "ptb")


HAND_MADE: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "tokenizers" / "hand_made.json").read_text(encoding="utf-8")
)
# Captions of the hand-made set whose words differ: words of the light tokenizer, words of PTB.
DIFFERENT_BY_CLASS = {
    "quotes": {"'tisn't": ("tis n't", "'t is n't")},
    "unicode": {
        "combining e\u0301": ("combining e \u0301", "combining e\u0301"),
        "m² and m³": ("m² and m³", "m ² and m ³"),
        "हिन्दी": ("ह ि न ् द ी", "हिन्दी"),
        "d’or l’eau": ("d'or l'eau", "d’or l’eau"),
    },
}


def differences(captions: list[str]) -> dict[str, tuple[str, str]]:
    pairs = zip(tokenize_lines(captions, "python"), tokenize_lines(captions, "ptb"), strict=True)
    return {caption: pair for caption, pair in zip(captions, pairs, strict=True) if pair[0].split() != pair[1].split()}


@needs_java
@pytest.mark.parametrize("of_class", HAND_MADE)
def test_tokenizers_agree_on_all_of_the_hand_made_set_but_this(of_class: str) -> None:
    assert differences(HAND_MADE[of_class]) == DIFFERENT_BY_CLASS.get(of_class, {})


def test_table_in_the_documents_is_that_of_the_hand_made_set() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tokenizers.md").read_text(encoding="utf-8")
    for of_class, captions in HAND_MADE.items():
        agreeing = len(captions) - len(DIFFERENT_BY_CLASS.get(of_class, {}))
        assert f"| {of_class} | {agreeing} of {len(captions)} |" in page


@pytest.mark.slow
@needs_java
@pytest.mark.skipif(not MSRVTT.is_dir(), reason="needs the official MSR-VTT annotation")
def test_tokenizers_agree_on_all_of_msrvtt_but_one() -> None:
    captions = []
    for name, file in (("train_val_annotation", "train_val"), ("test_videodatainfo.json", "test")):
        with zipfile.ZipFile(MSRVTT / f"{name}.zip") as archive:
            inside = next(path for path in archive.namelist() if path.endswith(f"{file}_videodatainfo.json"))
            captions += [sentence["caption"] for sentence in json.loads(archive.read(inside))["sentences"]]
    assert len(captions) == 200_000
    assert list(differences(captions)) == ["one women making recipe: basmati rice-1cup green chilli-2 curd-1/4 cup"]
