"""The parts of `scripts/benchmarks/gpu.py`, one module each, whose `run` records its findings case by case."""
