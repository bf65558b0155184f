"""Print who runs, where the module was loaded from and whether its bytecode was used."""

import json
import os
import sys
from pathlib import Path

import wellhead_tiny

cached = getattr(wellhead_tiny, "__cached__", None) or ""
sys.stdout.write(
    json.dumps(
        {"uid": os.getuid(), "file": wellhead_tiny.__file__, "compiled": Path(cached).is_file(), "cached": cached}
    )
)
