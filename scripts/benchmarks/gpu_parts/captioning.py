"""Measure captioning as in evaluation: batches, beam search, all captions of the same length."""

from typing import Any

from evlvideo.config.generation import GenerationConfig
from evlvideo.inference.captioning import generate_captions
from gpu_parts.generated import NoiseClips, make_processor, random_captioner
from gpu_parts.measure import Notes, peak_memory, seconds_of, start_of_peak
from gpu_parts.sizes import FORMS, Size

_REPEATS = 3


def run(size: Size, notes: Notes) -> None:
    """Measure the video form with beam search and greedily."""
    model = random_captioner(size.architecture(**FORMS["video"]))
    processor = make_processor(model)
    clips = NoiseClips(size.clips, size.frames, processor.image_size, per_caption=False)
    batch = size.batches[1]

    def caption(beams: int) -> dict[str, Any]:
        generation = GenerationConfig(
            num_beams=beams, max_new_tokens=size.new_tokens, min_new_tokens=size.new_tokens, batch_size=batch
        )
        start_of_peak()
        found = seconds_of(
            lambda: generate_captions(model, processor, clips, generation),
            warmup=1,
            repeats=min(_REPEATS, size.repeats),
        )
        return {
            "clips": size.clips,
            "batch": batch,
            "beams": beams,
            "new_tokens": size.new_tokens,
            "clips_per_second": size.clips / found["median_seconds"],
            "estimate": f"captioning, video, {beams} beams",
            **found,
            **peak_memory(),
        }

    for beams in (size.beams, 1):
        notes.measure(f"video, {beams} beams", caption, beams)
