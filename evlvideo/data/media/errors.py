"""The error of a media file that cannot be read or decoded."""

from evlvideo.errors import UserError


class DecodeError(UserError):
    """A video file that does not give the frames asked for; the message names the file and the reason."""

    def __init__(self, message: str) -> None:
        # A data loader raises its worker's error anew, with the worker's traceback around the sentence.
        super().__init__(message.rpartition("DecodeError: ")[2].strip())
