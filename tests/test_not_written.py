import errno

import pytest
from safetensors import SafetensorError

from evlvideo.errors import UserError, why_not_written


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a.txt"), "a.txt: Disk quota exceeded"),
        (OSError(errno.EROFS, "Read-only file system", "a.txt"), "a.txt: Read-only file system"),
        # As safetensors and torch tell it.
        (SafetensorError("Error while serializing: I/O error: (os error 28)"), "No space left on device"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "No space left on device"),
    ],
)
def test_the_system_s_reason_is_told(error: Exception, reason: str) -> None:
    assert why_not_written(error) == reason


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"),
        RuntimeError("CUDA out of memory."),
        SafetensorError("Error while deserializing header: header too large"),
        UserError("The file write failed, says the user."),
        ValueError("no space"),
    ],
)
def test_other_errors_are_none_of_the_system(error: Exception) -> None:
    assert why_not_written(error) is None
