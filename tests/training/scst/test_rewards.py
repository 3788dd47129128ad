import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evlvideo.config.data import DataConfig, SourceConfig
from evlvideo.config.reward_names import parse_reward
from evlvideo.config.run import RunConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.errors import UserError
from evlvideo.metrics.scoring import score_captions
from evlvideo.metrics.stored_scorer import load_scorer, scorer_key
from evlvideo.training.run import REWARD_NAME, _make_reward, _warn_of_scores
from evlvideo.training.scst.rewards import (
    CiderReward,
    MixedReward,
    OwnReward,
    SentenceReward,
    checked_rewards,
    load_function,
    make_reward,
)

REFERENCES = {
    "one": ["A man is playing a guitar.", "Someone's playing the guitar"],
    "two": ["a dog runs on the grass", "a brown dog is running"],
}


def test_better_caption_gets_more() -> None:
    good, bad, empty = CiderReward(REFERENCES)(["a man is playing a guitar", "a man", ""], ["one"] * 3, [True] * 3)
    assert good > bad > empty >= 0


def test_references_are_those_of_the_clip() -> None:
    own, other = CiderReward(REFERENCES)(["a brown dog is running"] * 2, ["two", "one"], [True] * 2)
    assert own > other


def test_captions_and_references_are_tokenized_alike() -> None:
    plain, written = CiderReward(REFERENCES)(
        ["someone 's playing the guitar", "Someone's playing the guitar!"], ["one"] * 2, [True] * 2
    )
    assert plain == written > 0


def test_ending_is_rewarded_only_with_end_of_text() -> None:
    captions, clips = ["a brown dog is running"] * 2, ["two"] * 2
    ended, cut = CiderReward(REFERENCES)(captions, clips, [True, False])
    assert ended > cut
    ended, cut = CiderReward(REFERENCES, end_of_text=False)(captions, clips, [True, False])
    assert ended == cut


def test_reward_does_not_depend_on_the_batch() -> None:
    reward = CiderReward(REFERENCES)
    captions, clips = ["a man runs", "a dog runs", "a guitar"], ["one", "two", "one"]
    together = reward(captions, clips, [True] * 3)
    alone = [CiderReward(REFERENCES)([c], [i], [True])[0] for c, i in zip(captions, clips, strict=True)]
    assert together == alone
    assert reward(captions[::-1], clips[::-1], [True] * 3) == together[::-1]


def test_frequencies_of_other_documents() -> None:
    documents = [["a man walks"], ["a man sits"], ["a man stands"]]
    own = CiderReward(REFERENCES)(["a man"], ["one"], [False])
    other = CiderReward(REFERENCES, documents)(["a man"], ["one"], [False])
    assert own != other


def test_unknown_clip() -> None:
    with pytest.raises(UserError, match="'three'"):
        CiderReward(REFERENCES)(["a man"], ["three"], [True])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        CiderReward(REFERENCES)(["a man"], ["one", "two"], [True])


def test_a_batch_takes_milliseconds() -> None:
    draw = random.Random(0)
    vocabulary = [f"word{i}" for i in range(500)]

    def caption() -> str:
        return " ".join(draw.choices(vocabulary, k=10))

    references = {f"clip{i}": [caption() for _ in range(20)] for i in range(16)}
    reward = CiderReward(references)
    batch = [caption() for _ in range(80)], [f"clip{i % 16}" for i in range(80)], [True] * 80
    reward(*batch)
    start = time.perf_counter()
    reward(*batch)
    # About 5 ms on one core; the limit leaves room for a busy machine.
    assert time.perf_counter() - start < 0.1


CAPTIONS, CLIPS, ENDED = ["a man plays a guitar", "a brown dog runs"], ["one", "two"], [True, True]


def test_frequencies_of_the_batch() -> None:
    reward = CiderReward({**REFERENCES, "three": ["a man"]}, frequencies="batch")
    assert reward(CAPTIONS, CLIPS, ENDED) == pytest.approx(CiderReward(REFERENCES)(CAPTIONS, CLIPS, ENDED), rel=1e-12)


@pytest.mark.parametrize("metric", ["bleu_4", "rouge_l"])
def test_sentence_rewards_are_the_scores_of_clips(metric: str) -> None:
    found = SentenceReward(metric, REFERENCES, end_of_text=False)(CAPTIONS, CLIPS, ENDED)
    per_clip = score_captions(dict(zip(CLIPS, CAPTIONS, strict=True)), REFERENCES, [metric], "python").per_clip
    assert found == pytest.approx([per_clip[clip][metric] for clip in CLIPS], rel=1e-9)


@pytest.mark.parametrize("metric", ["bleu_4", "rouge_l"])
def test_sentence_rewards_count_the_end(metric: str) -> None:
    captions, clips = ["a brown dog is running"] * 2, ["two"] * 2
    ended, cut = SentenceReward(metric, REFERENCES)(captions, clips, [True, False])
    assert ended == pytest.approx(1, abs=1e-6) and ended > cut
    ended, cut = SentenceReward(metric, REFERENCES, end_of_text=False)(captions, clips, [True, False])
    assert ended == cut


@pytest.mark.parametrize("metric", ["bleu_4", "rouge_l"])
def test_sentence_rewards_of_an_unknown_clip(metric: str) -> None:
    with pytest.raises(UserError, match="'three'"):
        SentenceReward(metric, REFERENCES)(["a man"], ["three"], [True])


def test_mix_is_the_weighted_sum() -> None:
    reward = make_reward(parse_reward("cider_d + 0.5 * bleu_4"), REFERENCES, split="mine:train")
    cider, bleu = (make_reward({name: 1.0}, REFERENCES, split="mine:train") for name in ("cider_d", "bleu_4"))
    parts = zip(cider(CAPTIONS, CLIPS, ENDED), bleu(CAPTIONS, CLIPS, ENDED), strict=True)
    expected = [one + 0.5 * other for one, other in parts]  # type: ignore[operator]
    assert reward(CAPTIONS, CLIPS, ENDED) == pytest.approx(expected)


def test_mix_cannot_score_what_a_part_cannot() -> None:
    def some(captions: list[str], references: list[list[str]], clip_ids: list[str]) -> list[float | None]:
        return [None, 2.0]

    mixed = MixedReward([(1, CiderReward(REFERENCES)), (3, OwnReward(some, REFERENCES, "some"))])
    first, second = mixed(CAPTIONS, CLIPS, ENDED)
    assert first is None and second is not None and second > 6


def test_first_reference_only_with_frequencies_of_all() -> None:
    reward = make_reward({"cider_d": 1.0}, REFERENCES, split="mine:train", first_reference_only=True)
    first = {clip: texts[:1] for clip, texts in REFERENCES.items()}
    assert reward(CAPTIONS, CLIPS, ENDED) == CiderReward(first, REFERENCES.values())(CAPTIONS, CLIPS, ENDED)


def test_counts_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "reward.safetensors"
    options: dict[str, Any] = {"split": "mine:train", "scorer_file": path}
    built = make_reward({"cider_d": 1.0}, REFERENCES, **options)(CAPTIONS, CLIPS, ENDED)
    assert path.is_file()
    assert make_reward({"cider_d": 1.0}, REFERENCES, **options)(CAPTIONS, CLIPS, ENDED) == built
    with pytest.raises(UserError, match="end of text true rather than false"):
        make_reward({"cider_d": 1.0}, REFERENCES, **options, end_of_text=False)
    make_reward({"cider_d": 1.0}, REFERENCES, **options, end_of_text=False, replace_file=True)


def test_no_file_for_other_rewards(tmp_path: Path) -> None:
    make_reward({"rouge_l": 1.0}, REFERENCES, split="mine:train", scorer_file=tmp_path / "reward.safetensors")
    assert list(tmp_path.iterdir()) == []


class TestOwn:
    @pytest.fixture(autouse=True)
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_rewards.py").write_text(
            "number = 3\n"
            "def words(captions, references, clip_ids):\n"
            "    return [len(c.split()) / len(r) for c, r in zip(captions, references)]\n"
        )
        (tmp_path / "broken_rewards.py").write_text("import nothing_of_this_name\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.path", [*sys.path])

    def test_function_of_the_working_directory(self) -> None:
        reward = make_reward({"own_rewards:words": 1.0}, REFERENCES, split="mine:train")
        assert reward(CAPTIONS, CLIPS, ENDED) == [2.5, 2.0]

    def test_nothing_is_written_where_a_function_is_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "reward.safetensors"
        with pytest.raises(UserError, match="has no 'letters'"):
            make_reward({"cider_d": 1, "own_rewards:letters": 1}, REFERENCES, split="mine:train", scorer_file=path)
        assert not path.exists()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("no_such_rewards:words", "cannot be imported: ModuleNotFoundError"),
            ("broken_rewards:words", "cannot be imported: .*nothing_of_this_name"),
            ("own_rewards:letters", "has no 'letters'"),
            ("own_rewards:number", "is 3, which cannot be called"),
        ],
    )
    def test_bad_names(self, name: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            load_function(name)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0], "returned 1 values for 2 captions"),
        (3.0, "returned '3.0'; it must return a list of 2"),
        (None, "returned 'None'; it must"),
        ([1.0, math.nan], "returned 'nan' for caption 1; it must"),
        ([-math.inf, 1.0], "returned '-inf' for caption 0"),
        (["1", 1.0], "returned '1' for caption 0"),
        ([1.0, [2.0]], r"returned '\[2.0\]' for caption 1"),
        ("ab", "returned 'a' for caption 0"),
        ([10**400, 1], "for caption 0"),
    ],
)
def test_returned_values_are_checked(returned: Any, message: str) -> None:
    reward = OwnReward(lambda captions, references, clip_ids: returned, REFERENCES, "mine:mine")
    with pytest.raises(UserError, match=f"The reward mine:mine .*{message}"):
        reward(CAPTIONS, CLIPS, ENDED)


def test_numbers_of_any_kind_are_rewards() -> None:
    assert checked_rewards(np.array([1, 2]), 2, "mine") == [1.0, 2.0]
    assert checked_rewards((True, None, np.float32(0.5)), 3, "mine") == [1.0, None, 0.5]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("cider_d", {"cider_d": 1}),
        (" cider_d  +  0.5 * bleu_4 ", {"cider_d": 1, "bleu_4": 0.5}),
        ("2*rouge_l + -1e+1*my.module:some.reward", {"rouge_l": 2, "my.module:some.reward": -10}),
    ],
)
def test_names_of_rewards(text: str, weights: dict[str, float]) -> None:
    assert parse_reward(text) == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cider", "'cider' is unknown; it must be one of cider_d, bleu_4, rouge_l"),
        ("", "is ''; it must"),
        ("cider_d + ", "it must be one of"),
        ("module:", "'module:' is unknown"),
        ("a b:c", "it must be one of"),
        ("cider_d + 2 * cider_d", "names cider_d twice"),
        ("nan * cider_d", "weight of the reward cider_d is nan"),
        ("much * cider_d", "is much; it must be a number other than 0"),
        ("0 * cider_d", "is 0; it must"),
    ],
)
def test_bad_names_of_rewards(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_reward(text)


class TestOfRun:
    def reward(self, directory: Path, **scst: Any) -> Any:
        config = RunConfig(output_dir=str(directory / "run"), scst=ScstConfig(**scst))
        return _make_reward(config, REFERENCES)(CAPTIONS, CLIPS, ENDED)

    def test_default_is_cider_d_with_the_end_counted(self, tmp_path: Path) -> None:
        assert self.reward(tmp_path) == CiderReward(REFERENCES)(CAPTIONS, CLIPS, ENDED)

    def test_counts_stay_in_the_runs_directory(self, tmp_path: Path) -> None:
        found = self.reward(tmp_path)
        assert [path.name for path in (tmp_path / "run").iterdir()] == [REWARD_NAME]
        assert self.reward(tmp_path) == found

    def test_a_run_writes_over_its_own_file(self, tmp_path: Path) -> None:
        with_end = self.reward(tmp_path)
        assert self.reward(tmp_path, reward_end_of_text=False) != with_end

    def test_a_run_does_not_write_over_a_named_file(self, tmp_path: Path) -> None:
        path = str(tmp_path / "shared.safetensors")
        self.reward(tmp_path, reward_file=path)
        assert not (tmp_path / "run").exists()
        with pytest.raises(UserError, match="end of text true rather than false"):
            self.reward(tmp_path, reward_file=path, reward_end_of_text=False)

    def test_frequencies_and_references(self, tmp_path: Path) -> None:
        found = self.reward(tmp_path, reward_frequencies="batch", reward_references="first")
        first = {clip: texts[:1] for clip, texts in REFERENCES.items()}
        assert found == CiderReward(first, frequencies="batch")(CAPTIONS, CLIPS, ENDED)

    def test_several_sources_are_named_in_the_file(self, tmp_path: Path) -> None:
        sources = [SourceConfig(dataset="msvd"), SourceConfig(dataset="msrvtt", split="validate")]
        config = RunConfig(output_dir=str(tmp_path), data=DataConfig(sources=sources))
        _make_reward(config, REFERENCES)
        key = scorer_key("msvd:train + msrvtt:validate", REFERENCES, end_of_text=True)
        load_scorer(tmp_path / REWARD_NAME, key)

    @pytest.mark.parametrize("reward", ["cider_d", "bleu_4", "rouge_l"])
    def test_scripts_without_spaces_are_rewarded_by_characters(self, tmp_path: Path, reward: str) -> None:
        found = {}
        for tokenizer in (None, "characters"):
            data, scst = DataConfig(scoring_tokenizer=tokenizer), ScstConfig(reward=reward, reward_end_of_text=False)
            config = RunConfig(output_dir=str(tmp_path), data=data, scst=scst)
            found[tokenizer] = _make_reward(config, CHINESE)(["男人在弹吉他"], ["a"], [True])[0]
        assert found["characters"] > 0.5 > 0.01 > found[None]
        spaced = {clip: [" ".join(text) for text in texts] for clip, texts in CHINESE.items()}
        config = RunConfig(output_dir=str(tmp_path), scst=ScstConfig(reward=reward, reward_end_of_text=False))
        assert _make_reward(config, spaced)(["男 人 在 弹 吉 他"], ["a"], [True]) == [found["characters"]]


CHINESE = {"a": ["一个男人在弹吉他", "男人正在演奏吉他"], "b": ["狗在草地上奔跑"], "c": ["一个女人在做饭"]}


@pytest.mark.parametrize(
    ("references", "tokenizer", "told"),
    [
        (CHINESE, None, ["4 of 4 references are in a script without spaces"]),
        (CHINESE, "characters", []),
        ({"a": ["a man"]}, None, ["CIDEr is 0 for any caption of a single clip"]),
        ({"a": ["一个男人在弹吉他"]}, "characters", ["CIDEr is 0 for any caption of a single clip"]),
        (REFERENCES, None, []),
    ],
)
def test_scores_that_say_little_are_in_the_log(
    references: dict[str, list[str]], tokenizer: str | None, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    _warn_of_scores(RunConfig(data=DataConfig(scoring_tokenizer=tokenizer)), "validation", references)
    assert len(caplog.messages) == len(told)
    for message, part in zip(caplog.messages, told, strict=True):
        assert message.startswith("Scores of validation: ")
        assert part in message
