"""Validates: the losses in eval mode, and retrieval over the whole validation split without a caption as a guide."""

from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce

from evlvideo.config.vlp import VlpConfig
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.loader import batch_loader
from evlvideo.inference.embedding import embed
from evlvideo.metrics.retrieval.ranks import SAME_SIMILARITY, pairs_of, place
from evlvideo.metrics.retrieval.scores import DirectionScores, direction_scores, mean_recall
from evlvideo.metrics.retrieval.similarities import similarity_blocks
from evlvideo.models.vlp.hosts.encoder import Encoder
from evlvideo.results.retrieval.features import RetrievalFeatures
from evlvideo.training.vlp.batches import PairCollator
from evlvideo.training.vlp.optimization import generator_of

RECALL = "validation_recall"
"""The mean of all recalls, which selects the best checkpoint, as for BLIP and ALBEF."""
_MOST_LOSS_BATCHES = 20


@torch.no_grad()
def validation_losses(
    model: Any, dataset: CaptionDataset, collator: PairCollator, config: VlpConfig, device: torch.device
) -> dict[str, float]:
    """Compute the mean losses of the first captions of up to 20 batches a process; all processes must call this.

    Training's pruning holds, captions as guides included, so that they compare with training's losses.

    Returns:
        none if there are too few clips for a batch in every process.
    """
    state = PartialState()
    size = min(config.training.batch_size, len(dataset) // state.num_processes)
    count = min(_MOST_LOSS_BATCHES, len(dataset) // max(1, size * state.num_processes))
    if size < 2 or not count:
        return {}
    places = [size * (number * state.num_processes + state.process_index) for number in range(count)]
    batches = [range(start, start + size) for start in places]
    was_training = model.training
    model.eval()
    sums: dict[str, torch.Tensor] = {}
    loader = batch_loader(dataset, batches, collator, num_workers=config.data.num_workers)
    for number, batch in enumerate(loader):
        inputs = {name: batch[name].to(device) for name in ("pixel_values", "input_ids", "attention_mask")}
        generator = generator_of(config.seed, number, state.process_index)
        losses = model(**inputs, alpha=config.losses.alpha, generator=generator)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach().double() / count
    model.train(was_training)
    means = {name: reduce(total, "mean").item() for name, total in sums.items()}
    return {"validation_loss" if name == "loss" else f"validation_{name}": mean for name, mean in means.items()}


def validation_recalls(encoder: Encoder, dataset: CaptionDataset, config: VlpConfig) -> dict[str, float]:
    """Measure retrieval over a split; all processes must call this."""
    encoder.host.eval()
    features = embed(encoder, dataset, batch_size=config.evaluation.batch_size, num_workers=config.data.num_workers)
    encoder.host.train()
    return recalls_of(features)


def recalls_of(features: RetrievalFeatures) -> dict[str, float]:
    """Score features in both directions, without intervals."""
    of_images, of_texts = pairs_of(features.owner)
    directions = {
        "image_to_text": (features.images, features.texts, of_images),
        "text_to_image": (features.texts, features.images, of_texts),
    }
    found: dict[str, float] = {}
    scores: list[DirectionScores] = []
    for name, (queries, candidates, right) in directions.items():
        places = place(similarity_blocks(queries, candidates), right, SAME_SIMILARITY)
        scores.append(direction_scores(places, len(candidates)))
        found |= {f"validation_{name}_r{k}": recall.value for k, recall in scores[-1].recalls.items()}
    return {RECALL: mean_recall(scores), **found}
