"""Self-critical sequence training: samples captions, scores them, and makes them more or less likely."""
