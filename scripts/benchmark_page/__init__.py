"""The sections of `docs/benchmarks.md`, each a function from a JSON file to lines of Markdown."""
