"""Which streams a manifest lets a connection select, and in which modes."""

from __future__ import annotations

from typing import Any

import pytest

from wellhead.manifest import offer

from .test_manifest import changed

BOTH = ("full_refresh", "incremental")
STREAMS = [
    {"name": "accounts", "sync_modes": ["full_refresh"]},
    {"name": "custom_one"},
    {"pattern": "custom_[a-z]+", "sync_modes": ["incremental"]},
]


@pytest.mark.parametrize(
    ("discover", "streams", "stream", "modes"),
    [
        ("static", STREAMS, "accounts", ("full_refresh",)),
        ("static", STREAMS, "custom_one", BOTH),
        ("static", STREAMS, "custom_two", ("incremental",)),
        ("static", STREAMS, "my_custom_two", ()),
        ("static", STREAMS, "other", ()),
        ("static", [], "other", BOTH),
        ("dynamic", STREAMS, "accounts", ("full_refresh",)),
        ("dynamic", STREAMS, "other", BOTH),
    ],
)
def test_a_stream_is_read_as_the_manifest_says_of_it(discover: str, streams: Any, stream: str, modes: Any) -> None:
    manifest = changed(
        (("capabilities", "discover"), discover),
        (("capabilities", "sync_modes"), list(BOTH)),
        (("streams",), streams),
    ).manifest
    assert offer.modes(manifest, stream) == modes


@pytest.mark.parametrize(
    ("discover", "streams", "said"),
    [
        ("static", STREAMS[:1], "accounts (full_refresh)"),
        (
            "dynamic",
            STREAMS[2:],
            "names like custom_[a-z]+ (incremental), what it finds at the source (full_refresh, incremental)",
        ),
    ],
)
def test_what_is_offered_is_listed_with_its_modes(discover: str, streams: Any, said: str) -> None:
    manifest = changed(
        (("capabilities", "discover"), discover),
        (("capabilities", "sync_modes"), list(BOTH)),
        (("streams",), streams),
    ).manifest
    assert offer.listed(manifest) == said
