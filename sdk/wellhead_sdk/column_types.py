"""The words by which a connection's config names column types, the same in every connector that asks for them."""

from __future__ import annotations

import re

import pyarrow as pa

_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}
#: For messages and documentation.
WORDS = f"{', '.join(_TYPES)}, decimal(PRECISION,SCALE)"


def column_type(word: str) -> pa.DataType:
    """Return the Arrow type that ``word`` names.

    ``timestamp`` has no zone and ``timestamptz`` is UTC; both hold microseconds. ``decimal(p,s)`` has 1 to 38 digits.

    Raises:
        ValueError: it names none; the text lists those that exist.
    """
    found = _DECIMAL.fullmatch(word)
    if found and 1 <= int(found[1]) <= 38 and int(found[2]) <= int(found[1]):
        return pa.decimal128(int(found[1]), int(found[2]))
    if word not in _TYPES:
        raise ValueError(f"{word!r} is not one of {WORDS}")
    return _TYPES[word]
