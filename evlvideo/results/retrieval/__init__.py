"""Files of text-image and text-video retrieval: features, and their scores."""
