"""Loads the batches of a run in the order of its dataset, with workers that may end and start again."""

import logging
import math
from collections.abc import Iterable, Iterator, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from transformers import Trainer

from evlvideo.data.loading.loader import (
    RestartingBatches,
    batch_loader,
    end_workers,
    prepare_workers,
    restarting_epoch,
)

logger = logging.getLogger(__name__)


class OrderedTrainer(Trainer):
    """Transformers' trainer, which takes items in the dataset's own order."""

    _train_loader: DataLoader | None = None
    _epoch: tuple[Iterator[dict[str, Any]], RestartingBatches[dict[str, Any]]] | None = None

    def get_train_dataloader(self) -> DataLoader:
        """Make the loader of this process's batches."""
        loader: Any = super().get_train_dataloader()
        # Accelerate's loader wraps this one.
        inside: DataLoader = loader.base_dataloader
        prepare_workers(inside)
        # It samples a seed whenever workers start, which happens at other times in a resumed run or with persistent
        # workers. A separate generator leaves training's random state alone.
        inside.generator = torch.Generator()
        self._train_loader = inside
        return cast(DataLoader, loader)

    def batches_before_training(self, items: int) -> Iterable[dict[str, Any]]:
        """Load the first items outside training, whose random state and order of clips stay as they are."""
        items, size = min(items, len(cast(Sized, self.train_dataset))), self.args.per_device_train_batch_size
        batches = [range(first, min(first + size, items)) for first in range(0, items, size)]
        return batch_loader(
            cast("Dataset[Any]", self.train_dataset),
            batches,
            self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> SequentialSampler:
        # The dataset is shuffled already. A random sampler would undo the proportions of a mixture, and hold the order
        # of all items in memory.
        return SequentialSampler(cast(Sized, self.train_dataset if train_dataset is None else train_dataset))

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | int | None]:
        """Take the batches of one optimizer step; workers that the system ended are started again."""
        if self._epoch is None or self._epoch[0] is not epoch_iterator:
            self._epoch = (epoch_iterator, self._restarting(epoch_iterator))
        return super().get_batch_samples(self._epoch[1], num_batches, device)

    def _restarting(self, epoch_iterator: Iterator[dict[str, Any]]) -> RestartingBatches[dict[str, Any]]:
        """Wrap the batches of an epoch, or of the rest of it in a resumed run."""
        loader: Any = self.callback_handler.train_dataloader
        accumulated = self.args.gradient_accumulation_steps
        epoch, steps = divmod(self.state.global_step, math.ceil(len(loader) / accumulated))
        skipped = 0 if self.args.ignore_data_skip else steps * accumulated
        return restarting_epoch(loader, epoch_iterator, epoch=epoch, skipped=skipped, tell=logger.warning)

    def end_loading(self) -> None:
        """End the workers that load training batches."""
        if self._epoch is not None:
            self._epoch[1].close()
        if self._train_loader is not None:
            # Persistent workers live until their loader drops them, and the program would wait for them at exit.
            end_workers(self._train_loader._iterator)
            self._train_loader._iterator = None
