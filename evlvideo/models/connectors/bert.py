"""Connectors that start from a BERT: the TomeFormer, and Q-Formers as BLIP-2 starts them."""

from evlvideo.errors import UserError
from evlvideo.models.connectors.base import Connector
from evlvideo.models.connectors.blip2 import Blip2
from evlvideo.models.connectors.tomeformer import TomeFormer, copy_bert_weights, load_bert_weights

_QFORMER_NAMES = (
    ("layernorm.", "embeddings.LayerNorm."),
    (".attention.attention.", ".attention.self."),
    (".intermediate_query.", ".intermediate."),
    (".output_query.", ".output."),
)
"""Beginnings and parts of a Q-Former's names, and BERT's in their place."""


def load_bert_into(connector: TomeFormer | Connector, name: str) -> None:
    """Initialise a connector, in place, from a BERT checkpoint, by hub name or folder.

    The cross-attention of a Q-Former is not in a BERT and stays at random, as BLIP-2's starts.

    Raises:
        UserError: there is no such checkpoint, its sizes differ, or the connector is not made of a BERT.
    """
    if isinstance(connector, TomeFormer):
        load_bert_weights(connector, name)
    elif isinstance(connector, Blip2):
        own = {key: value for key, value in connector.qformer.state_dict().items() if ".crossattention." not in key}
        copy_bert_weights({_bert_name(key): value for key, value in own.items()}, name)
    else:
        raise UserError(
            f"connector_init starts a connector from the BERT {name!r}, and {type(connector).__name__} does not start "
            "from one; set connector_init to null, or connector to tomeformer or blip2."
        )


def _bert_name(key: str) -> str:
    for ours, theirs in _QFORMER_NAMES:
        key = key.replace(ours, theirs) if ours.startswith(".") or key.startswith(ours) else key
    return key
