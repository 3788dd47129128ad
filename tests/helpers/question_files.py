"""Files of questions, in the forms of the datasets."""

import json
from pathlib import Path
from typing import Any


def vqa_annotation(number: int, **changes: Any) -> dict[str, Any]:
    """An annotation of ten answers, `a0` to `a9`, about image 42."""
    answers = [{"answer": f"a{n}", "answer_confidence": "yes", "answer_id": n + 1} for n in range(10)]
    types = {"question_type": "what is", "answer_type": "other", "multiple_choice_answer": "a0"}
    return {"question_id": number, "image_id": 42, "answers": answers, **types} | changes


def write_vqa_questions(root: Path, part: str, ids: list[int], prefix: str = "v2_", **changes: Any) -> None:
    questions = [{"question_id": number, "image_id": 42, "question": f"What is {number}?"} for number in ids]
    content = {"info": {}, "data_subtype": part, "questions": questions, "license": {}} | changes
    (root / f"{prefix}OpenEnded_mscoco_{part}_questions.json").write_text(json.dumps(content))


def write_vqa_annotations(
    root: Path, part: str, annotations: list[dict[str, Any]], prefix: str = "v2_", subtype: str | None = None
) -> None:
    content = {"annotations": annotations, "data_subtype": subtype or part}
    (root / f"{prefix}mscoco_{part}_annotations.json").write_text(json.dumps(content))


def write_vqa(root: Path, part: str, ids: list[int], prefix: str = "v2_") -> None:
    """Questions and annotations, which come in another order."""
    write_vqa_questions(root, part, ids, prefix)
    write_vqa_annotations(root, part, [vqa_annotation(number) for number in reversed(ids)], prefix)


def gqa_question(**changes: Any) -> dict[str, Any]:
    types = {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"}
    return {
        "question": "Is it red?",
        "imageId": "n161313",
        "answer": "no",
        "types": types,
        "isBalanced": True,
    } | changes


def write_gqa(root: Path, questions: dict[str, Any] | list[Any], part: str = "testdev") -> None:
    (root / f"{part}_balanced_questions.json").write_text(json.dumps(questions))
