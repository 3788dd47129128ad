"""Run inside lmms-eval: our checkpoints as one of its models, and captioning tasks over local files.

See docs/lmms_eval.md. Only :mod:`evlvideo.harness.model` and what lmms-eval calls import its packages.
"""

from pathlib import Path

TASKS = Path(__file__).parent / "tasks"
"""Directory of the task files, for lmms-eval's `--include_path`."""
