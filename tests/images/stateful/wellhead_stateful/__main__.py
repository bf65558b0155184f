"""Counts how often it was asked, in a file of its own image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

import wellhead_sdk as sdk

#: Where a connector might keep something, the likeliest first; /tmp is none of them, because it is given for scratch.
PLACES = (
    Path("/var/lib/stateful/memory"),
    Path("/var/tmp/memory"),
    Path("/opt/memory"),
    Path(__file__).parent / "memory",
)

SCHEMA = pa.schema([pa.field("place", pa.string()), pa.field("reads", pa.int64())])


def remember(place: Path) -> int:
    """Count one more read in ``place`` and return how many it makes.

    Raises:
        OSError: nothing can be kept there.
    """
    reads = int(place.read_text(encoding="ascii")) + 1 if place.exists() else 1
    place.write_text(str(reads), encoding="ascii")
    return reads


class Stateful(sdk.Connector):
    """Offers one stream, whose rows depend on what earlier runs left behind."""

    def authenticate(self, config: object, secrets: Mapping[str, str]) -> None:
        """Need nothing."""

    def discover(self, session: None) -> Iterator[sdk.Stream]:
        """Offer the memories."""
        yield sdk.Stream("memories", schema=SCHEMA)

    def read(self, session: None, request: sdk.ReadRequest, out: sdk.Out) -> None:
        """Send one row a place that keeps something; a place that does not is passed over in silence."""
        for place in PLACES:
            with contextlib.suppress(OSError):
                out.emit({"place": str(place), "reads": remember(place)})
        out.checkpoint({"done": True})


if __name__ == "__main__":
    sdk.serve(Stateful)
