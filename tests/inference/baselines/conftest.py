"""Small video-text models on disk."""

from tiny_video_models import family as family
