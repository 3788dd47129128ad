"""How long things take."""

from typing import Any

from benchmark_page.tables import spread, table


def full_size(report: dict[str, Any]) -> list[str]:
    """Make the section on EVLGen at full size."""
    rows = [
        [
            name,
            str(run["soft_tokens"]),
            f"{run['median_seconds']['encode']:.1f} ({spread(run['seconds']['encode'])})",
            f"{run['median_seconds']['generate']:.1f} ({spread(run['seconds']['generate'])})",
            f"{run['peak_memory_gib']:.1f}",
        ]
        for name, run in report["runs"].items()
    ]
    parameters = next(iter(report["runs"].values()))["parameters"]
    return [
        "## EVLGen at full size, on a CPU",
        "",
        f"`scripts/benchmarks/full_size.py`: {report['architecture']}, {parameters / 1e9:.2f} billion random weights "
        f"in bfloat16, one clip of {report['frames']} frames, {report['new_tokens']} new tokens without beam search, "
        f"{report['machine']['threads']} threads. Seconds are medians, with the range.",
        "",
        *table(["tokens merged per layer", "soft tokens", "encoding, s", "generation, s", "peak memory, GiB"], rows),
    ]


def comparison(report: dict[str, Any]) -> list[str]:
    """Make the section on a comparison of caption files."""
    rows = [[part, f"{times['wall']:.2f}", f"{times['process']:.2f}"] for part, times in report["seconds"].items()]
    return [
        "## A comparison",
        "",
        f"`scripts/benchmarks/comparison.py`: {report['systems']} files of 2,990 captions against MSR-VTT's official "
        f"test references, {report['resamples']:,} resamples for intervals and tests; seconds of one run on "
        f"{report['machine']['cpus']} CPU threads with a load of {report['machine']['load']:.1f}. METEOR and the "
        "tokenizer are Java programs; the process's time does not include theirs.",
        "",
        *table(["part", "wall", "process"], rows),
    ]


def scoring(report: dict[str, Any]) -> list[str]:
    """Make the section on scoring at full size."""
    names = {"score": "one system scored, its result written and read", "compare": "systems compared, tables and page"}
    rows = [
        [
            f"{int(clips):,}",
            names[part],
            f"{found['cpu_seconds']:.0f}",
            f"{found['programs_cpu_seconds']:.0f}",
            f"{found['peak_mb']:,}",
            f"{found['result_mb']:.1f} MB result" if "result_mb" in found else f"{found['page_mb']:.2f} MB page",
        ]
        for clips, parts in report["clips"].items()
        for part, found in parts.items()
    ]
    return [
        "## Scoring at full size",
        "",
        f"`scripts/benchmarks/scoring.py`: generated captions, {report['references']} references per clip, "
        f"{report['systems']} systems in the comparison, all metrics but METEOR, one run in its own process on "
        f"{report['machine']['cpus']} CPU threads with a load of {report['machine']['load']:.1f}. CPU seconds are the "
        "process's; those of the tokenizer's Java program are listed separately.",
        "",
        *table(["clips", "what", "CPU seconds", "Java's CPU seconds", "peak, MB", "written"], rows),
    ]


def decoding(report: dict[str, Any]) -> list[str]:
    """Make the section on decoders."""
    ways = list(report["clips"][0]["frames"]["4"]["ways"])
    rows, ratios = [], []
    for clip in report["clips"]:
        for count, found in clip["frames"].items():
            name = f"{clip['name']}, {count} frames"
            rows.append([name, *(f"{found['ways'][way]['clips_per_second']:.1f}" for way in ways)])
            ratios.append(
                [
                    name,
                    found["fastest_backend"],
                    f"{found['auto_over_fastest_speed']:.2f}",
                    f"{found['auto_over_published_speed']:.2f}",
                    f"{found['guarded_over_auto_time']:.2f}",
                ]
            )
    return [
        "## Decoding",
        "",
        "`scripts/benchmarks/decoding.py`: clips per second, uniform frames of rendered H.264 files, scaled to "
        f"{report['size']} × {report['size']}, {report['threads']} thread, rounds interleaved. `guarded` is `auto` in "
        "a separate process, `published` is decord with its own scaling, and `pytorchvideo` is that library's reader.",
        "",
        *table(["clip", *ways], rows),
        "",
        "Ratios are medians over rounds.",
        "",
        *table(["clip", "fastest", "auto over fastest", "auto over published", "guarded over auto, time"], ratios),
    ]


def answers(report: dict[str, Any]) -> list[str]:
    """Make the section on scoring answers."""
    columns = ("questions", "seconds", "cpu_seconds", "peak_mib")
    rows = [[name, *(f"{found[column]:,}" for column in columns)] for name, found in report["datasets"].items()]
    return [
        "## Scoring answers",
        "",
        "`scripts/benchmarks/answers.py`: generated annotations of the sizes and forms of the official ones, read and "
        "scored in one process each, with start-up, all metrics of the dataset, scores by type and by question, and "
        f"intervals; {report['machine']['cpus']} cores, beside other programs (load {report['machine']['load']:.0f}).",
        "",
        *table(["dataset", "questions", "seconds", "CPU seconds", "peak, MiB"], rows),
    ]


def damage(report: dict[str, Any]) -> list[str]:
    """Make the section on holes in videos."""
    columns = (
        *("holes", "that_change_a_frame", "of_these_found", "of_these_found_by_default"),
        "wrong_frames_where_nothing_is_found",
    )
    kinds = {**report["kinds"], "total": report["total"]}
    rows = [[name, *(str(counts.get(column, 0)) for column in columns)] for name, counts in kinds.items()]
    return [
        "## Damage",
        "",
        "`scripts/benchmarks/damage.py`: holes of 16 to 3,000 bytes at random places of stored frames, in clips of "
        f"{report['frames']} frames of moving noise, seed {report['seed']}, PyAV {report['versions']['av']}. `evlvideo "
        "data check-videos` finds what a decoder notices, with every check that it has; decoding for training refuses "
        "a file where the decoder does so by default. HEVC stores checksums only if its encoder is asked to.",
        "",
        *table(["file", "holes", "change a frame", "found", "refused in training", "wrong frames not found"], rows),
    ]


def features(report: dict[str, Any]) -> list[str]:
    """Make the section on stored features."""
    medians, seconds = report["median_seconds"], report["seconds"]
    rows = [[kind, f"{medians[kind]:.1f} ({spread(seconds[kind])})"] for kind in seconds]
    equal = "equal bit for bit" if report["losses_equal"] else f"different by up to {report['largest_difference']:.1e}"
    return [
        "## Training from features",
        "",
        f"`scripts/benchmarks/features.py`: {report['steps']} steps of the merged contextualizer over each clip of "
        f"the mini dataset once, {report['machine']['threads']} threads. Losses are {equal}; training from features is "
        f"{report['ratio']:.1f} times as fast. Extracting them took {report['extraction_seconds']:.0f} s.",
        "",
        *table(["from", "seconds"], rows),
    ]


def captioning(report: dict[str, Any]) -> list[str]:
    """Make the section on captioning files."""
    medians, seconds, peak = report["median_seconds"], report["seconds"], report["peak_mib"]
    rows = [[way, f"{medians[way]:.1f} ({spread(seconds[way])})"] for way in seconds]
    equal = "equal" if report["captions_equal"] else "not all equal"
    grown = " and ".join(f"{mib:,.0f} MiB with {int(count):,} files" for count, mib in peak.items())
    machine = report["machine"]
    return [
        "## Captioning files",
        "",
        f"`scripts/benchmarks/captioning.py`: {report['files']} clips of the mini dataset, {report['workers']} "
        f"workers, {machine['cpus']} CPU threads with a load of {machine['load']:.1f}. Seconds are medians, with the "
        f"range; batches are {report['ratio']:.1f} times as fast, and captions are {equal}. The process's memory "
        f"peaked at {grown}.",
        "",
        *table(["way", "seconds"], rows),
    ]


def threads(report: dict[str, Any]) -> list[str]:
    """Make the section on waiting threads."""
    rows = [
        [
            beside,
            *(f"{found['median'][policy][kind]:.1f}" for policy in ("active", "passive") for kind in ("wall", "cpu")),
            *(f"{found['active_over_passive'][kind]:.2f}" for kind in ("wall", "cpu")),
        ]
        for beside, found in report["beside"].items()
    ]
    header = [f"{policy}, {kind}" for policy in ("active", "passive", "ratio") for kind in ("wall", "CPU")]
    return [
        "## Waiting threads",
        "",
        f"`scripts/benchmarks/threads.py`: {report['steps']} training steps with {report['threads']} threads on "
        f"{report['machine']['cores']} cores with a load of {report['machine']['load'][0]:.1f}. Waiting threads "
        "spin, as by default, or sleep (`OMP_WAIT_POLICY=passive`). Seconds are medians and include start-up.",
        "",
        *table(["beside", *header], rows),
    ]


def checkpointing(report: dict[str, Any]) -> list[str]:
    """Make the section on gradient checkpointing."""
    rows = [
        [
            f"{dtype}, {kind}",
            f"{step[kind]['kept_bytes'] / 2**20:,.0f}",
            f"{step[kind]['seconds']:.2f}",
            f"{step[kind]['cpu_seconds']:.2f}",
        ]
        for dtype, step in report["steps"].items()
        for kind in ("plain", "checkpointed")
    ]
    tower = report["tower"]
    return [
        "## Gradient checkpointing",
        "",
        f"`scripts/benchmarks/checkpointing.py`: ViT-B/16 with a contextualizer in every block, BERT-base with "
        f"merging, sizes of OPT-125m, random weights; {report['clips']} clip(s) of {report['frames']} frames, "
        f"{report['threads']} thread(s) on {report['machine']}. Kept is what autograd saves for the backward pass, "
        "without weights. Seconds per step are medians.",
        "",
        *table(["step", "kept, MiB", "wall", "CPU"], rows),
        "",
        f"The tower alone takes {tower['fp32']['cpu_seconds']:.2f} CPU seconds in fp32 and "
        f"{tower['bf16']['cpu_seconds']:.2f} in bf16.",
    ]
