"""The benchmark of answers measures what it says."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))
import answers  # noqa: E402

from evlvideo.data.annotation.questions.facts import QUESTION_DATASETS  # noqa: E402
from evlvideo.data.annotation.questions.splits import read_questions  # noqa: E402
from evlvideo.files import read_json  # noqa: E402
from evlvideo.results.answer_files import read_answers  # noqa: E402


@pytest.mark.parametrize("dataset", answers.SIZES)
def test_files_have_the_form_and_size_of_the_dataset(tmp_path: Path, dataset: str) -> None:
    facts = QUESTION_DATASETS[dataset]
    write, count = answers.SIZES[dataset]
    assert facts.questions[facts.reported_split] == (count,)
    write(tmp_path, 20)
    questions = read_questions(dataset, facts.reported_split, tmp_path, check_counts=False, check_files=False)
    assert {question.question_id for question in questions} == read_answers(tmp_path / "predictions.json").keys()
    assert {len(question.answers) for question in questions} == {facts.answers_per_question}


def test_the_kept_report_is_within_its_limits() -> None:
    found = read_json(ROOT / "docs" / "benchmarks" / "answers.json")["datasets"]
    assert found["vqav2"]["questions"] == 214_354
    # Wall time is that of a shared machine.
    assert found["vqav2"]["cpu_seconds"] < 60
    assert found["vqav2"]["peak_mib"] < 3 * 1024
