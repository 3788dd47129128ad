"""The error of a media file that cannot be read or decoded."""

from evlvideo.errors import UserError


class DecodeError(UserError):
    """An image or video that cannot be read or decoded; the message names the file and the reason."""

    def __init__(self, message: str) -> None:
        # A data loader raises its worker's error again, with the worker's traceback before the message.
        super().__init__(message.rpartition("DecodeError: ")[2].strip())
