"""Sections of `docs/benchmarks.md`: each function turns a JSON file into lines of Markdown."""
