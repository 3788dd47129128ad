"""The contrastive term that fits a captioner."""

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors import TOMEFORMER
from evlvideo.models.contrast.term import ContrastiveTerm


def check_contrasts(captioner: EvlVideoForCaptioning, beta: float) -> None:
    """Check that a captioner has a class token to contrast.

    Args:
        captioner: the model.
        beta: weight of the term, for the message.

    Raises:
        UserError: it has none.
    """
    name, tower = captioner.config.connector, captioner.vision_tower
    if name != TOMEFORMER or not tower.shape.class_token:
        raise UserError(
            f"contrastive.beta is {beta}, but connector={name} on {captioner.config.vision_tower} has no class token "
            f"to contrast; set it to 0, or use connector={TOMEFORMER} on a tower with a class token."
        )


def make_term(captioner: EvlVideoForCaptioning, text_dim: int, width: int, gradient: str) -> ContrastiveTerm:
    """Make the term between a captioner's connector tokens and encoded captions of `text_dim` channels."""
    connector = captioner.connector
    return ContrastiveTerm(
        connector.output_dim,
        text_dim,
        width,
        frame_tokens=connector.num_output_tokens(captioner.vision_tower.shape.num_tokens),
        gradient=gradient,
    )
