"""What several benchmarks measure processes with."""
