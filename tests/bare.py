"""Importing this keeps pandas out of the process, as it is out of every image.

It is here for what the demo loads. Arrow imports it, where it is, at the first value it converts: 0.4 s of every
connector that a test starts.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec


class _WithoutPandas:
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("an image has no pandas", name=fullname)
        return None


sys.meta_path.insert(0, _WithoutPandas())
