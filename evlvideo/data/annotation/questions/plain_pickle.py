"""Read pickles of plain data. A pickle can name any function to call; here, naming one ends the reading."""

import pickle
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError


class _PlainUnpickler(pickle.Unpickler):
    """Modifications: no class or function is found, so that there are only containers, strings, bytes and numbers."""

    def find_class(self, module: str, name: str) -> Any:
        raise UserError(
            f"it names {module}.{name}, and reading it could run code; a file of plain lists, dictionaries and strings "
            "needs none: get the original, or the JSON or parquet form"
        )


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of lists, dictionaries, strings and numbers.

    Raises:
        UserError: it cannot be read, is broken, or names a class or function.
    """
    try:
        with path.open("rb") as file:
            # Python 2 wrote text as bytes.
            return _PlainUnpickler(file, encoding="utf-8").load()
    except UserError as error:
        raise UserError(f"{path} is refused: {error}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        # Broken bytes make the unpickler raise errors of any kind.
        raise UserError(f"{path} is not a pickle of plain data: {error}; get the file again.") from error
