"""Staying under a source's request quota, counted over a sliding minute."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

WINDOW_S = 60.0


class RateLimit:
    """At most ``per_minute`` requests in any 60 seconds, over all threads that share it.

    A sliding window and not a bucket: a bucket lets twice the quota through around a minute's border, and sources
    count. A reservation is never given back; a request that failed was still counted by the source.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        """Begin with the whole quota.

        Raises:
            ValueError: the quota is below 1.
        """
        if per_minute < 1:
            raise ValueError(f"per_minute is {per_minute}; a quota below 1 allows no request at all")
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: When each of the newest ``per_minute`` requests was allowed to go, oldest first.
        self._sent: deque[float] = deque(maxlen=per_minute)

    def reserve(self) -> float:
        """Book the next request and return how many seconds to wait before sending it; 0 when it may go at once."""
        with self._lock:
            now = self._monotonic()
            at = now
            if len(self._sent) == self._sent.maxlen:
                at = max(now, self._sent[0] + WINDOW_S)
            self._sent.append(at)
            return at - now
