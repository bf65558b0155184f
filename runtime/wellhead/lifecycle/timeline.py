"""How long each step of a run took, in the order the steps began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wellhead.clock import Clock


class Timeline:
    """Seconds by step; steps repeated by further attempts add up."""

    def __init__(self, clock: Clock, on_step: Callable[[str], None] = lambda _step: None) -> None:
        """Begin now; ``on_step`` is told each step as it begins."""
        self._clock = clock
        self._on_step = on_step
        self._began = clock.monotonic()
        self._steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step, also when it fails."""
        self._on_step(name)
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self._steps[name] = self._steps.get(name, 0.0) + self._clock.monotonic() - began

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the run began."""
        return self._clock.monotonic() - self._began

    def seconds(self) -> dict[str, float]:
        """Return the steps so far and their ``total``."""
        return {**self._steps, "total": self.elapsed_s}
