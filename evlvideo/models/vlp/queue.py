"""The queue of earlier features that contrast compares with. Notation: `K` places, `C` channels, `B` new pairs."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlvideo.models.contrast.gather import gathered

IMAGES, TEXTS = "images", "texts"


class FeatureQueue(nn.Module):
    """Keeps the features of the last `K` pairs of all processes; new ones replace the oldest.

    It starts with random unit vectors, as published, the same in all processes.

    Args:
        places: `K`; 0 keeps nothing.
        width: `C`.
        generator: draws the first features.
    """

    images: Tensor
    texts: Tensor
    place: Tensor

    def __init__(self, places: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        for name in (IMAGES, TEXTS):
            self.register_buffer(name, F.normalize(torch.randn(places, width, generator=generator), dim=-1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, images: Tensor, texts: Tensor) -> None:
        """Add the pairs of all processes, in the order of the processes. All must call this with as many.

        Args:
            images: unit vectors, `(B, C)`.
            texts: those of their texts, `(B, C)`.
        """
        size = len(self.images)
        if not size:
            return
        for name, features in ((IMAGES, images), (TEXTS, texts)):
            features = gathered(features, constant=True)
            pushed = len(features)
            newest = features[-size:]  # a batch may be larger than the queue
            first = self.place + pushed - len(newest)
            places = (first + torch.arange(len(newest), device=newest.device)) % size
            getattr(self, name).index_copy_(0, places, newest.to(self.images.dtype))
        self.place.copy_((self.place + pushed) % size)
