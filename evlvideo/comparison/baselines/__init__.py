"""Other systems, captioning the same clips: video-text models of transformers."""
