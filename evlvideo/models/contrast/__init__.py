"""The contrast of images and captions beside cross-entropy: its loss, and the frozen encoder of captions."""
