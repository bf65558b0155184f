"""The Engine and an image to run programs in."""

from __future__ import annotations

from tests.containers import engine, python_image

__all__ = ["engine", "python_image"]
