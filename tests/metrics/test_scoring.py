import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evlvideo.errors import UserError
from evlvideo.metrics import cider as cider_module
from evlvideo.metrics import meteor as meteor_module
from evlvideo.metrics.java import find_java
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.scoring import score_captions, score_tokenized
from evlvideo.metrics.tokenized_references import TokenizedReferences
from evlvideo.metrics.tokenizers import ptb
from evlvideo.metrics.tokenizers import tokenize as tokenization

needs_java = pytest.mark.skipif(find_java() is None, reason="needs a Java runtime")

WITHOUT_METEOR = [metric for metric in METRICS if metric != "meteor"]
REFERENCES = {
    "one": ["a man is playing a guitar", "someone plays the guitar"],
    "two": ["a dog runs on the grass", "a brown dog is running"],
    "three": ["a woman is cooking", "a lady cooks in a kitchen"],
}
PREDICTIONS = {"three": "a woman is cooking", "two": "a dog is running", "one": "a man is singing"}


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "find_java", lambda: None)
    monkeypatch.setattr(ptb, "find_java", lambda: None)
    monkeypatch.setattr("evlvideo.metrics.java.find_java", lambda: None)


def test_without_java_all_but_meteor_is_reported(no_java: None) -> None:
    scores = score_captions(PREDICTIONS, REFERENCES)
    assert scores.tokenizer == "python"
    assert list(scores.corpus) == WITHOUT_METEOR
    assert list(scores.skipped) == ["meteor"]
    assert "no Java runtime" in scores.skipped["meteor"]
    assert "\n" not in scores.skipped["meteor"]


def test_every_clip_has_every_metric() -> None:
    scores = score_captions(PREDICTIONS, REFERENCES, WITHOUT_METEOR, tokenizer="python")
    assert list(scores.per_clip) == list(REFERENCES)
    assert all(list(clip) == WITHOUT_METEOR for clip in scores.per_clip.values())


def test_exact_caption_scores_highest() -> None:
    per_clip = score_captions(PREDICTIONS, REFERENCES, WITHOUT_METEOR, tokenizer="python").per_clip
    assert per_clip["three"]["rouge_l"] == 1
    assert all(per_clip["three"][metric] > per_clip["one"][metric] for metric in WITHOUT_METEOR)


def test_corpus_scores_that_are_means() -> None:
    scores = score_captions(PREDICTIONS, REFERENCES, WITHOUT_METEOR, tokenizer="python")
    for metric in ("rouge_l", "cider"):
        mean = sum(clip[metric] for clip in scores.per_clip.values()) / len(REFERENCES)
        assert scores.corpus[metric] == pytest.approx(mean)


def test_some_metrics_only() -> None:
    assert list(score_captions(PREDICTIONS, REFERENCES, ["bleu_4"], tokenizer="python").corpus) == ["bleu_4"]


def test_scorers_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    score_captions(PREDICTIONS, REFERENCES, WITHOUT_METEOR, tokenizer="python")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_caption_without_words_scores_zero() -> None:
    predictions = {**PREDICTIONS, "one": " \n . "}
    references = {**REFERENCES, "one": ["...", "a man"]}
    scores = score_captions(predictions, references, WITHOUT_METEOR, tokenizer="python")
    assert scores.per_clip["one"] == pytest.approx(dict.fromkeys(WITHOUT_METEOR, 0), abs=1e-9)


def test_all_captions_empty() -> None:
    scores = score_captions(dict.fromkeys(PREDICTIONS, ""), REFERENCES, WITHOUT_METEOR, tokenizer="python")
    assert scores.corpus == pytest.approx(dict.fromkeys(WITHOUT_METEOR, 0), abs=1e-9)


def test_subset_of_everything_equals_the_whole() -> None:
    scores = score_captions(
        PREDICTIONS, REFERENCES, WITHOUT_METEOR, tokenizer="python", subsets={"all": list(REFERENCES), "none": []}
    )
    assert scores.subsets["all"] == pytest.approx(scores.corpus)
    assert scores.subsets["none"] == {}


def test_cider_of_a_subset_keeps_the_frequencies_of_the_whole() -> None:
    scores = score_captions(
        PREDICTIONS, REFERENCES, WITHOUT_METEOR, tokenizer="python", subsets={"some": ["one", "three"]}
    )
    expected = (scores.per_clip["one"]["cider"] + scores.per_clip["three"]["cider"]) / 2
    assert scores.subsets["some"]["cider"] == pytest.approx(expected)
    alone = {clip_id: REFERENCES[clip_id] for clip_id in ("one", "three")}
    captions = {clip_id: PREDICTIONS[clip_id] for clip_id in alone}
    apart = score_captions(captions, alone, WITHOUT_METEOR, tokenizer="python").corpus
    assert scores.subsets["some"]["bleu_4"] == pytest.approx(apart["bleu_4"])


@pytest.mark.parametrize(
    "metrics", [WITHOUT_METEOR, pytest.param(METRICS, marks=needs_java)], ids=["without METEOR", "with METEOR"]
)
def test_a_subset_with_its_own_frequencies_is_scored_as_if_it_were_all(metrics: list[str]) -> None:
    references = {**REFERENCES, "four": ["a dog is cooking", "a dog cooks"]}
    predictions, members = {**PREDICTIONS, "four": "a dog cooks"}, ["four", "two", "three"]
    scores = score_captions(
        predictions, references, metrics, "python", subsets={"some": members}, subset_frequencies="own"
    )
    alone = score_captions(
        {clip_id: predictions[clip_id] for clip_id in members},
        {clip_id: references[clip_id] for clip_id in members},
        metrics,
        "python",
    )
    assert scores.subsets["some"] == pytest.approx(alone.corpus)
    whole = score_captions(predictions, references, metrics, "python", subsets={"some": members})
    assert whole.corpus == scores.corpus and whole.per_clip == scores.per_clip
    assert whole.subsets["some"]["cider"] != pytest.approx(scores.subsets["some"]["cider"], abs=1e-3)


def test_an_empty_subset_has_no_scores_either_way() -> None:
    for frequencies in ("split", "own"):
        scores = score_captions(
            PREDICTIONS, REFERENCES, ["cider"], "python", subsets={"none": []}, subset_frequencies=frequencies
        )
        assert scores.subsets == {"none": {}}


def test_unknown_frequencies() -> None:
    with pytest.raises(UserError, match="The frequencies are 'domain'; allowed: split, own"):
        score_captions(PREDICTIONS, REFERENCES, ["cider"], "python", subset_frequencies="domain")


def test_missing_and_unknown_clips_are_listed_together() -> None:
    predictions = {"one": "a man", "four": "a cat", "five": "a bird"}
    with pytest.raises(UserError) as raised:
        score_captions(predictions, REFERENCES)
    assert "2 of 3 clips have no caption: two, three" in str(raised.value)
    assert "2 of 3 captions are for unknown clips: four, five" in str(raised.value)


def test_long_lists_are_cut() -> None:
    references = {f"clip{i}": ["a man"] for i in range(40)}
    with pytest.raises(UserError, match=r"40 of 40 clips have no caption: clip0, .*clip9, …;"):
        score_captions({}, references)


def test_references_without_words() -> None:
    with pytest.raises(UserError, match="1 clips have no reference with a word in it: one"):
        score_captions(PREDICTIONS, {**REFERENCES, "one": ["..."]}, WITHOUT_METEOR, tokenizer="python")


def test_nothing_to_score() -> None:
    with pytest.raises(UserError, match="nothing to score"):
        score_captions({}, {})


def test_unknown_metric() -> None:
    with pytest.raises(UserError, match="Unknown metrics: bertscore; allowed: bleu_1"):
        score_captions(PREDICTIONS, REFERENCES, ["bertscore", "cider"])


def test_meteor_that_fails_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        failure = "its Java program failed"

        def score(self, *_: object) -> None:
            return None

    scores = score_captions(PREDICTIONS, REFERENCES, tokenizer="python", meteor=Broken())  # type: ignore[arg-type]
    assert scores.skipped == {"meteor": "its Java program failed"}
    assert list(scores.corpus) == WITHOUT_METEOR
    assert meteor_module.NO_JAVA not in scores.skipped.values()


words = st.lists(st.sampled_from(["a", "man", "dog", "runs", "the"]), max_size=7).map(" ".join)
some_words = words.filter(bool)
corpora = st.lists(st.tuples(words, st.lists(words, max_size=3), some_words), min_size=1, max_size=5)


@given(corpora)
@example([("", [], "a dog")])
@example([("a dog", ["a man"], "a dog")])
@example([("a dog", [], "a dog")] * 2)
@example([("a dog runs " * 40, ["the " * 130], "a dog runs " * 45), ("a", [], "a")])
def test_scores_are_those_of_pycocoevalcap(corpus: list[tuple[str, list[str], str]]) -> None:
    bleu, cider = (pytest.importorskip(f"pycocoevalcap.{name}.{name}") for name in ("bleu", "cider"))
    references = {str(place): [*group, one.strip()] for place, (_, group, one) in enumerate(corpus)}
    captions = {str(place): caption.strip() for place, (caption, _, _) in enumerate(corpus)}
    scores = score_captions(captions, references, [*METRICS[:4], "cider"], tokenizer="python")
    lists = {clip_id: [caption] for clip_id, caption in captions.items()}
    corpus_cider, of_clips = cider.Cider().compute_score(references, lists)
    assert scores.corpus["cider"] == pytest.approx(float(corpus_cider), rel=1e-14, abs=1e-15)
    found = [clip["cider"] for clip in scores.per_clip.values()]
    assert found == pytest.approx(of_clips.tolist(), rel=1e-13, abs=1e-15)
    corpus_bleu, of_clips = bleu.Bleu(4).compute_score(references, lists, verbose=0)
    assert [scores.corpus[name] for name in METRICS[:4]] == corpus_bleu
    assert [[clip[name] for clip in scores.per_clip.values()] for name in METRICS[:4]] == of_clips


def test_systems_share_the_counts_of_their_references(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    count = cider_module.count_words
    monkeypatch.setattr(cider_module, "count_words", lambda *args, **more: counted.append(1) or count(*args, **more))
    references = TokenizedReferences(REFERENCES, "python")
    for captions in (PREDICTIONS, {clip_id: "a man" for clip_id in REFERENCES}):
        expected = score_captions(captions, REFERENCES, ["bleu_4", "cider"], tokenizer="python")
        assert score_tokenized(captions, references, ["bleu_4", "cider"]) == expected
    assert len(counted) == 1 + 2


def test_clips_without_a_caption_are_no_documents() -> None:
    captions = {clip_id: PREDICTIONS[clip_id] for clip_id in ("one", "three")}
    alone = {clip_id: REFERENCES[clip_id] for clip_id in captions}
    found = score_tokenized(captions, TokenizedReferences({**REFERENCES, "none": []}, "python"), WITHOUT_METEOR)
    expected = score_captions(captions, alone, WITHOUT_METEOR, tokenizer="python")
    assert found.corpus == pytest.approx(expected.corpus, rel=1e-14)
    assert list(found.per_clip) == ["one", "three"]


LINE_ENDS = ["\r", "\n", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0", "\t", "\u3000"]


@pytest.mark.parametrize("tokenizer", ["python", pytest.param("ptb", marks=needs_java)])
@pytest.mark.parametrize("where", ["hypotheses", "references"])
def test_line_ends_inside_captions_shift_nothing(tokenizer: str, where: str) -> None:
    def broken(text: str, place: int) -> str:
        return text.replace(" ", LINE_ENDS[place % len(LINE_ENDS)]) + LINE_ENDS[(place + 1) % len(LINE_ENDS)]

    count = 2 * len(LINE_ENDS)
    clips = list(REFERENCES) * count
    predictions = {f"{clip}{place}": PREDICTIONS[clip] for place, clip in enumerate(clips)}
    references = {f"{clip}{place}": REFERENCES[clip] for place, clip in enumerate(clips)}
    expected = score_captions(predictions, references, WITHOUT_METEOR, tokenizer).per_clip
    if where == "hypotheses":
        predictions = {clip: broken(text, place) for place, (clip, text) in enumerate(predictions.items())}
    else:
        references = {
            clip: [broken(text, place) for text in texts] for place, (clip, texts) in enumerate(references.items())
        }
    assert score_captions(predictions, references, WITHOUT_METEOR, tokenizer).per_clip == expected
