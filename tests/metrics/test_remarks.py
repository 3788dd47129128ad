import pytest

from evlvideo.metrics.remarks import CHARACTERS_REMARK, cider_remarks, script_remarks
from evlvideo.metrics.scoring import score_captions

CHINESE = {
    "a": ["一个男人在弹吉他", "男人正在演奏吉他"],
    "b": ["狗在草地上奔跑", "一只棕色的狗在跑"],
    "c": ["一个女人在做饭", "女士在厨房里做菜"],
}
PREDICTIONS = {"a": "男人在弹吉他", "b": "一只狗在草地上跑", "c": "女人在厨房做饭"}
METRICS = ("bleu_1", "bleu_4", "rouge_l", "cider")


def test_scripts_without_spaces_are_told() -> None:
    scores = score_captions(PREDICTIONS, CHINESE, METRICS, tokenizer="python")
    assert scores.corpus["cider"] == 0
    (remark,) = scores.remarks
    assert remark.startswith("6 of 6 references are in a script without spaces between words")
    assert "data.scoring_tokenizer=characters" in remark


def test_by_characters_they_are_scored_and_the_tokenizer_is_named() -> None:
    scores = score_captions(PREDICTIONS, CHINESE, METRICS, tokenizer="characters")
    assert scores.tokenizer == "characters"
    assert scores.remarks == [CHARACTERS_REMARK]
    spaced = score_captions(
        {clip: " ".join(text) for clip, text in PREDICTIONS.items()},
        {clip: [" ".join(text) for text in texts] for clip, texts in CHINESE.items()},
        METRICS,
        tokenizer="python",
    )
    assert scores.corpus == spaced.corpus
    assert scores.corpus["cider"] > 1


@pytest.mark.parametrize("tokenizer", ["python", "ptb"])
def test_a_few_foreign_words_are_not_told(tokenizer: str) -> None:
    references = {"a": ["a man with a sign that says 你好世界你好"] + ["a man with a sign"] * 19}
    assert script_remarks(references, tokenizer) == []


@pytest.mark.parametrize(
    ("references", "reason"),
    [
        ({"a": ["a man", "a boy"]}, "CIDEr is 0 for any caption of a single clip"),
        ({"a": ["a man", "a boy"], "b": ["a boy", "a man"]}, "the references of all clips are alike"),
        ({"a": ["a man"], "b": ["a man"], "c": ["a man", "a man"]}, "the references of all clips are alike"),
    ],
)
def test_why_cider_is_0(references: dict[str, list[str]], reason: str) -> None:
    scores = score_captions(dict.fromkeys(references, "a man"), references, ("cider",), tokenizer="python")
    assert scores.corpus == {"cider": 0}
    (remark,) = scores.remarks
    assert reason in remark


@pytest.mark.parametrize(
    "references", [{}, {"a": [""], "b": [""]}, {"a": ["a man"], "b": ["a dog"]}, {"a": ["a man"], "b": ["a man", "b"]}]
)
def test_other_references_are_not_told(references: dict[str, list[str]]) -> None:
    assert cider_remarks(references) == []


def test_without_cider_nothing_is_told_of_it() -> None:
    assert score_captions({"a": "a"}, {"a": ["a"]}, ("rouge_l",), tokenizer="python").remarks == []
