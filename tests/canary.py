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
    """Return the secret raw, escaped, in hex and in base64 at three alignments, and the inside of the gzip of each.

    The inside of a gzip is looked for as it is, in hex, in base64 at three alignments and as Python prints bytes.
    """
    raw = secret.encode()
    texts = {secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret)}
    texts |= {raw.hex(), raw.hex().upper()}
    coded = {base64.b64encode(b"#" * lead + raw).decode()[4 if lead else 0 :] for lead in range(3)}
    whole = {text.encode() for text in texts | coded | {text.rstrip("=") for text in coded}}
    # At level 0 nothing is compressed: what is inside is there as it is.
    packed = {gzip.compress(form, level, mtime=0)[10:-8] for form in whole for level in range(1, 10)}
    found = {text.encode() for text in texts} | _in_base64(raw) | packed
    for body in packed:
        found |= {body.hex().encode(), body.hex().upper().encode(), repr(body)[2:-1].encode(), *_in_base64(body)}
    return found


def _in_base64(data: bytes) -> set[bytes]:
    """Return what base64 shows of ``data`` whatever surrounds it: whole groups of three bytes, without the edges."""
    found = set()
    for lead in range(3):
        inside = base64.b64encode(b"\0" * lead + data)[4 if lead else 0 :].rstrip(b"=")[:-4]
        found |= {inside, inside.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def found_in(places: Iterable[tuple[str, bytes]], *secrets: str) -> list[str]:
    """Say where which form of a secret is; an empty list is what a test wants."""
    wanted = [form for secret in secrets for form in forms(secret)]
    return [f"{name}: {form!r}" for name, content in places for form in wanted if form in content]
