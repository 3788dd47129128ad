"""Measure scoring of answers at the datasets' own sizes: seconds and memory of `evlvideo score-answers`.

    python scripts/benchmarks/answers.py

Writes `docs/benchmarks/answers.json`. Annotations in the official form and predictions are generated: answers by Zipf's
law, of which annotators share some; 3 answer types and 65 question types. Each call is a process of its own, which
reads all files, scores in every form that papers report, per type and with intervals, and writes per-question scores.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
SEED, WORDS, ANNOTATORS = 0, 20_000, 10
ANSWER_TYPES, QUESTION_TYPES = ("yes/no", "number", "other"), 65
STRUCTURES = ("query", "verify", "choose", "logical", "compare")


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "answers.json")
    parser.add_argument("--dataset", choices=list(SIZES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dataset:
        print(json.dumps(measured(options.dataset)))
        return
    report = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "commit": git_commit(),
        "seed": SEED,
        # Each in a process of its own, since peak memory is that of all children.
        "datasets": {
            dataset: json.loads(
                subprocess.run(
                    [sys.executable, __file__, "--dataset", dataset], capture_output=True, text=True, check=True
                ).stdout
            )
            for dataset in SIZES
        },
    }
    write_json(options.out, report)
    print(json.dumps(report, indent=1))


def measured(dataset: str) -> dict[str, Any]:
    """Generate the files of a dataset, and measure the command."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write, questions = SIZES[dataset]
        write(root, questions)
        command = [sys.executable, "-m", "evlvideo", "score-answers", str(root / "predictions.json"), "--root", name,
                   "--dataset", dataset, "--question-types", "--out", str(root / "result.json")]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = json.loads((root / "result.json").read_text(encoding="utf-8"))
        return {
            "questions": result["questions"],
            "seconds": round(seconds, 2),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
            "peak_mib": round(used.ru_maxrss / 1024),
            "annotation_mib": round(sum(file.stat().st_size for file in root.glob("*.json")) / 2**20),
            "scores": {name: score["value"] for name, score in result["scores"].items()},
            "question_types": len(result["question_types"]),
            "lines": done.stdout.splitlines()[:8],
        }


def write_vqav2(root: Path, count: int) -> None:
    """VQAv2's validation split."""
    _write_vqa(root, count, "v2_")


def write_okvqa(root: Path, count: int) -> None:
    """OK-VQA's test split."""
    _write_vqa(root, count, "")


def write_gqa(root: Path, count: int) -> None:
    """GQA's balanced test-dev split."""
    draw = Answers()
    questions, predictions = {}, []
    for number in range(count):
        structure = draw.random.choice(STRUCTURES)
        answer = draw.word() if structure == "query" else draw.random.choice(("yes", "no"))
        questions[f"20{number:07}"] = {
            "question": "Is it generated?", "imageId": f"n{number % 398}", "answer": answer, "isBalanced": True,
            "types": {"structural": structure, "semantic": "attr", "detailed": "x"},
        }  # fmt: skip
        given = answer if draw.random.random() < 0.4 else draw.word()
        predictions.append({"questionId": f"20{number:07}", "prediction": given})
    (root / "testdev_balanced_questions.json").write_text(json.dumps(questions))
    (root / "predictions.json").write_text(json.dumps(predictions))


def _write_vqa(root: Path, count: int, prefix: str) -> None:
    draw = Answers()
    questions, annotations, predictions = [], [], []
    for number in range(count):
        ids = {"image_id": number % 40_504, "question_id": number * 1000 + number % 3}
        answers = draw.of_annotators()
        questions.append({**ids, "question": f"What is it that question {number} asks about?"})
        annotations.append({
            **ids, "question_type": f"type {number % QUESTION_TYPES}", "answer_type": ANSWER_TYPES[number % 3],
            "multiple_choice_answer": answers[0],
            "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": n + 1}
                        for n, answer in enumerate(answers)],
        })  # fmt: skip
        given = draw.random.choice(answers) if draw.random.random() < 0.6 else draw.word()
        predictions.append({"question_id": ids["question_id"], "answer": given})
    part = {"info": {}, "data_subtype": "val2014"}
    (root / f"{prefix}OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({**part, "questions": questions}))
    (root / f"{prefix}mscoco_val2014_annotations.json").write_text(json.dumps({**part, "annotations": annotations}))
    (root / "predictions.json").write_text(json.dumps(predictions))


class Answers:
    """Draws answers by Zipf's law, some with punctuation, articles, digits and contractions."""

    def __init__(self) -> None:
        self.random = random.Random(SEED)
        forms = ("{}", "{}", "{}", "the {}", "{}.", "{}, dont", "two {}", "{}-{}", "it's {}")
        self._words = [self.random.choice(forms).replace("{}", f"word{number}") for number in range(WORDS)]
        self._sums = list(accumulate(1 / (rank + 1) for rank in range(WORDS)))

    def word(self) -> str:
        """Draw an answer."""
        return self.random.choices(self._words, cum_weights=self._sums)[0]

    def of_annotators(self) -> list[str]:
        """Draw ten answers, most of which are equal."""
        common = self.word()
        return [common if self.random.random() < 0.6 else self.word() for _ in range(ANNOTATORS)]


SIZES = {"vqav2": (write_vqav2, 214_354), "okvqa": (write_okvqa, 5_046), "gqa": (write_gqa, 12_578)}
"""How the files of each dataset are written, and the number of questions."""

if __name__ == "__main__":
    main()
