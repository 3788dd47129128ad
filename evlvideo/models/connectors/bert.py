"""Weights of a BERT checkpoint, for the connectors that start from one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import BertModel

from evlvideo.errors import UserError


def copy_bert_weights(wanted: Mapping[str, Tensor], name: str) -> None:
    """Copy weights of a BERT checkpoint. Its other weights, such as word embeddings and pooler, are left out.

    Args:
        wanted: tensors to fill, under BERT's names.
        name: hub name or folder of the checkpoint.

    Raises:
        UserError: there is no such checkpoint, or its sizes differ (all differences are listed).
    """
    try:
        bert, loading = cast("Any", BertModel.from_pretrained(name, add_pooling_layer=False, output_loading_info=True))
    except (OSError, ValueError) as error:
        where = "folder" if Path(name).exists() else "hub name or folder"
        raise UserError(f"No BERT checkpoint could be read from the {where} {name!r}: {error}") from error
    # Weights that the files lack are random in `bert`.
    theirs = {key: value for key, value in bert.state_dict().items() if key not in loading["missing_keys"]}
    problems = [
        f"{key}: {tuple(value.shape)} here, {tuple(theirs[key].shape) if key in theirs else 'missing'} there"
        for key, value in wanted.items()
        if key not in theirs or theirs[key].shape != value.shape
    ]
    if problems:
        raise UserError(f"The BERT checkpoint {name!r} does not fit the connector:\n  " + "\n  ".join(problems))
    with torch.no_grad():
        for key, value in wanted.items():
            value.copy_(theirs[key])
