"""The growing wait before a dead container is started again."""

from __future__ import annotations


class BackOff:
    """One container's back-off, as the kubelet keeps it: in memory, so a restart clears it.

    The first death costs no wait; the next ones cost base, 2 base, 4 base … up to the longest. A
    container that then lives for twice the longest wait starts from the beginning.
    """

    def __init__(self, base: float, longest: float) -> None:
        self._base = base
        self._longest = longest
        self._current: float | None = None
        self._advanced_at = 0.0

    @property
    def current(self) -> float:
        """The wait that the next death costs."""
        return self._current or 0.0

    def remaining(self, finished_at: float, now: float) -> float:
        """How long a container that ended at this time still has to wait."""
        if self._current is None or now - self._advanced_at > 2 * self._longest + self._current:
            return 0.0
        return max(0.0, finished_at + self._current - now)

    def advance(self, now: float) -> None:
        """Note a restart: the next death waits longer."""
        fresh = self._current is None or now - self._advanced_at > 2 * self._longest
        self._current = self._base if fresh else min(2 * self.current, self._longest)
        self._advanced_at = now
