"""A digest that tells sets of references apart."""

import hashlib
from collections.abc import Mapping, Sequence


def references_digest(references: Mapping[str, Sequence[str]]) -> str:
    """Return the SHA-256 of ids and references in the order of the ids, in hexadecimal."""
    digest = hashlib.sha256()
    for clip_id in sorted(references):
        # Lengths first, so that no text looks like a boundary.
        for text in (clip_id, str(len(references[clip_id])), *references[clip_id]):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
