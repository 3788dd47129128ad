"""Numbers that others published, as quoted rows. They are not measured here, and the table says so."""

from evlvideo.comparison.rows.row import Row

_POSTER = "EVLGen (Jian et al., ACL 2024, arXiv 2310.03291), poster, MSR-VTT test"

# CIDEr, BLEU-4, METEOR, ROUGE-L, as printed.
_POSTER_MSRVTT: dict[str, tuple[float, float, float, float]] = {
    "Video-LLaMA": (59.3, 47.7, 29.6, 63.7),
    "VideoChat": (58.0, 46.5, 29.5, 63.4),
    "VideoCoCa (open)": (63.0, 48.5, 31.4, 64.8),
    "EVLGen, concat baseline": (65.5, 44.4, 31.9, 64.1),
    "EVLGen, mean baseline": (67.8, 47.3, 32.2, 65.0),
    "EVLGen-image": (68.4, 47.6, 32.4, 65.3),
    "EVLGen-video": (69.8, 48.3, 32.6, 65.8),
    "EVLGen-video-scst": (74.0, 49.2, 33.0, 66.5),
}


def quoted_rows(dataset: str, split: str) -> list[Row]:
    """Give the quoted rows for a data set and split; none where nothing was published for it.

    Source: the MSR-VTT captioning table of EVLGen's poster.
    """
    if (dataset, split) != ("msrvtt", "test"):
        return []
    return [
        Row(
            name=name,
            regime="quoted",
            source=_POSTER,
            values=dict(
                zip(("cider", "bleu_4", "meteor", "rouge_l"), (round(score / 100, 4) for score in scores), strict=True)
            ),
        )
        for name, scores in _POSTER_MSRVTT.items()
    ]
