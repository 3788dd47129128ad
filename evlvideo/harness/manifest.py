"""The entry point by which lmms-eval finds our model."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> "ModelManifest":
    """Return what lmms-eval registers as the model `evlvideo`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="evlvideo", simple_class_path="evlvideo.harness.model.EvlVideo")
