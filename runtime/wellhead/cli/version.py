"""``wellhead version``."""

from __future__ import annotations

import platform
import sys

from wellhead import __version__
from wellhead.cli import output
from wellhead.cli.options import Json


def version(as_json: Json = False) -> None:
    """Print the versions of Wellhead and Python, and the protocol versions this host speaks."""
    from wellhead_sdk.wire.messages import PROTOCOL_VERSIONS

    facts = {
        "wellhead": __version__,
        "protocol": list(PROTOCOL_VERSIONS),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
    if as_json:
        output.print_json(facts)
    else:
        output.console().print(
            f"wellhead {__version__}  (protocol {', '.join(map(str, PROTOCOL_VERSIONS))}, python {facts['python']})",
            markup=False,
        )
