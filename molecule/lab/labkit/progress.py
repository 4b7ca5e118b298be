"""Progress lines: what happens, and how long it has taken so far."""

from __future__ import annotations

import sys
import threading
import time


class Progress:
    """Writes `[ 12.3s] text` to stderr, so that stdout stays the answer."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def __call__(self, text: str) -> None:
        with self._lock:
            print(f"[{self.elapsed():6.1f}s] {text}", file=sys.stderr, flush=True)
