"""Our checkpoints as a model of lmms-eval; importing this needs lmms-eval."""

import os
from typing import Any, NoReturn

from lmms_eval.api.model import lmms

from evlvideo.errors import UserError
from evlvideo.harness.requests import caption_requests


class EvlVideo(lmms):
    """A captioner for lmms-eval: `--model evlvideo --model_args checkpoint=runs/NAME`.

    Args:
        checkpoint: a run, a checkpoint directory, a hub name, or `mini`.
        batch_size: clips captioned at once. Defaults to the run's `generation.batch_size`.
        max_batch_size: not read; lmms-eval always names it.
        device: must be left out.
        changes: changes to the run's config, such as `generation.num_beams=3`.

    Raises:
        UserError: a device is named, or there are several processes.
    """

    def __init__(
        self,
        checkpoint: str,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        if device is not None:
            raise UserError(
                f"The device is {device!r}, but evlvideo takes the GPU if there is one; leave --device out, and set "
                "CUDA_VISIBLE_DEVICES to choose."
            )
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError(
                "evlvideo captions in one process of lmms-eval; start it without a launcher. `evlvideo evaluate` "
                "captions in several."
            )
        self.checkpoint = checkpoint
        if batch_size is not None:
            changes["generation.batch_size"] = batch_size
        self.changes = [
            f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in changes.items()
        ]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Caption the file of each request; see :func:`evlvideo.harness.requests.caption_requests`."""
        return caption_requests(requests, self.task_dict, self.checkpoint, self.changes)

    def generate_until_multi_round(self, requests: list[Any]) -> NoReturn:
        """Refuse tasks of several rounds."""
        raise NotImplementedError("evlvideo captions in one round; choose a task of captions.")

    def loglikelihood(self, requests: list[Any]) -> NoReturn:
        """Refuse tasks that compare given answers."""
        raise NotImplementedError("evlvideo writes captions and compares no given answers; choose a task of captions.")
