"""What `scripts/benchmarks/gpu.py` measures: a module for each part, whose `run` notes what it finds case by case."""
