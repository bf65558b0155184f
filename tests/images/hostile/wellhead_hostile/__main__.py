"""The container's entry point.

What happens before Authenticate cannot be chosen by the connection's config, which comes with it: such a mode is named
by the file ``mode`` in the mounted folder ``hostile``.
"""

from __future__ import annotations

from pathlib import Path

from wellhead_hostile.modes import MODES
from wellhead_hostile.service import Connector

MODE_FILE = Path("/data/hostile/mode")


def main() -> None:
    """Serve in the mode of the mounted file, else honestly until the config says otherwise."""
    name = MODE_FILE.read_text(encoding="ascii").strip() if MODE_FILE.is_file() else "honest"
    Connector(MODES[name], MODES).serve()


if __name__ == "__main__":
    main()
