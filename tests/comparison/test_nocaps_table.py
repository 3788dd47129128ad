"""NoCaps at its own size: 4,500 images, scored in the four columns of its table."""

import json
from pathlib import Path

import pytest
from nocaps_annotation import VALIDATION, captions_of, domains_of, write_nocaps

from evlvideo.comparison.compare import compare
from evlvideo.comparison.rows.scoring import ScoringRequest
from evlvideo.metrics.scoring import score_captions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_java")]


def test_a_rendered_annotation_is_scored_in_four_columns(tmp_path: Path) -> None:
    root, domains = tmp_path / "nocaps", domains_of(VALIDATION)
    write_nocaps(root)
    # What is right of in-domain images, and names only a common thing elsewhere.
    captions = {
        str(number): captions_of(number if domain == "in-domain" else number + 1, domain, 1)[0]
        for number, domain in enumerate(domains)
    }
    submission = [{"image_id": int(number), "caption": caption} for number, caption in captions.items()]
    (tmp_path / "mine.json").write_text(json.dumps(submission))
    request = ScoringRequest(predictions={"mine": tmp_path / "mine.json"}, dataset="nocaps", root=root)
    table = compare([], out=tmp_path / "out", split="validate", request=request, quoted=True).table
    assert [column.title for column in table.columns if column.group] == ["in-domain", "near-domain", "out-domain"]
    assert {column.group for column in table.columns} == {"", "CIDEr by domain"}
    assert any("with its own document frequencies" in remark for remark in table.remarks)
    mine = next(row.row for row in table.rows if row.row.name == "mine")
    assert [row.row.regime for row in table.rows] == ["quoted"] * 4 + ["scored"]
    for domain in VALIDATION:
        members = {str(number) for number, found in enumerate(domains) if found == domain}
        alone = score_captions(
            {clip_id: captions[clip_id] for clip_id in members},
            {clip_id: captions_of(int(clip_id), domain) for clip_id in members},
            ["cider"],
            "python",
        )
        assert mine.values[f"cider_{domain}"] == pytest.approx(alone.corpus["cider"])
    assert mine.values["cider"] is not None
    assert mine.values["cider_in-domain"] > mine.values["cider_out-domain"]
