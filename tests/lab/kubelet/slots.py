"""Who may run under a full name: one static pod at a time, the others in line."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .manifest import StaticPod


class Slots:
    """A slot per full name; whoever waits longest gets it next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: dict[str, list[str]] = {}

    def join(self, pod: StaticPod) -> None:
        """Stand in line; the first in line holds the slot."""
        with self._changed:
            line = self._lines.setdefault(pod.full_name, [])
            if pod.uid not in line:
                line.append(pod.uid)

    def acquire(self, pod: StaticPod, still_wanted: Callable[[], bool]) -> bool:
        """Wait for the slot; False where the pod is no longer wanted before it had it."""
        self.join(pod)
        with self._changed:
            while self._lines[pod.full_name][0] != pod.uid:
                if not still_wanted():
                    self._lines[pod.full_name].remove(pod.uid)
                    return False
                self._changed.wait(0.1)
        return True

    def release(self, pod: StaticPod) -> None:
        """Leave the line, so that the next one may run."""
        with self._changed:
            self._lines[pod.full_name].remove(pod.uid)
            self._changed.notify_all()
