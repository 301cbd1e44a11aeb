"""Short names of texts that depend on nothing but the text."""

from __future__ import annotations

import hashlib


def text_hash(text: str) -> str:
    """16 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
