"""A secret to look for, in every form it could hide in; nothing here comes from the code under test."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.parse
from collections.abc import Iterable

#: What was looked through, by name.
Places = list[tuple[str, bytes]]


def forms(secret: str) -> set[bytes]:
    """Return the secret raw, escaped, in hex, in base64 at three alignments, and as the inside of its gzip."""
    raw = secret.encode()
    texts = {secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret)}
    texts |= {raw.hex(), raw.hex().upper()}
    for lead in range(3):
        # What base64 shows of the secret whatever surrounds it: whole groups of three bytes, without the edges.
        coded = base64.b64encode(b"\0" * lead + raw)[4 if lead else 0 :].decode().rstrip("=")
        texts |= {coded[:-4], coded[:-4].replace("+", "-").replace("/", "_")}
    return {text.encode() for text in texts} | {gzip.compress(raw, mtime=0)[10:-8]}


def found_in(places: Iterable[tuple[str, bytes]], *secrets: str) -> list[str]:
    """Say where which form of a secret is; an empty list is what a test wants."""
    wanted = [form for secret in secrets for form in forms(secret)]
    return [f"{name}: {form!r}" for name, content in places for form in wanted if form in content]
