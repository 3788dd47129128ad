"""Long films: cut into windows or shots to caption, and captions with times put together to subtitles."""
