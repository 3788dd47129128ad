"""The captioner and its parts: networks, what is trained of them, and how they are stored."""
