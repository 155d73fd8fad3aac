"""Who waits for the agents at their points: to hold one there, or to kill it again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tests.faults import gate
from tests.faults.points import Point, Track
from tests.lab.operator import Running

HELD = 120.0
"""Seconds for which a call may be held; a coordinator gives up after 180."""


class Stop:
    """Holds the agent that comes to a point until somebody has decided what becomes of it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.call: gate.Call | None = None
        self.label = ""
        self._reached, self._go = threading.Event(), threading.Event()

    def fits(self, point: Point) -> bool:
        """By the whole key, or with the name of the step's action for its phase."""
        return self.key in (point.key, f"{point.host}:{point.action}:{point.number}")

    def hold(self, point: Point, call: gate.Call) -> None:
        """Called in the gate's thread: returns when the call may go on, or its process is gone."""
        if self._reached.is_set() or not self.fits(point):
            return
        self.call, self.label = call, str(point)
        self._reached.set()
        self._go.wait(HELD)

    def wait(self, run: Running) -> gate.Call | None:
        """Wait until the point is reached; None where the run ends without it."""
        while not self._reached.wait(0.01):
            if run.is_over:
                return None
        return self.call

    def release(self) -> None:
        """Let the call be answered."""
        self._go.set()


class LastMoment(Stop):
    """Holds the first agent that is about to announce a step without a way back, or the last."""

    def __init__(self, track: Track) -> None:
        super().__init__("the last moment before the point of no return")
        self._track = track

    def fits(self, point: Point) -> bool:
        """The announcement is not written yet."""
        turns = self._track.finals or {self._track.last}
        return point.record == "intent" and point.step in turns


class Sweeper(Stop):
    """Holds, one after the other, the agents that come to any of these points, once at each."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"one of {len(keys)} points")
        self._keys = set(keys)
        self._turn = threading.Lock()
        self.struck: list[Point] = []
        self.is_on = True

    def hold(self, point: Point, call: gate.Call) -> None:
        """Called in the gate's thread: several hosts may come at once, and each has its turn."""
        with self._turn:
            if not self.is_on or point.key not in self._keys:
                return
            self._keys.discard(point.key)
            self.struck.append(point)
            self.call = call
            self._go.clear()
            self._reached.set()
            self._go.wait(HELD)

    def release(self) -> None:
        """Let the call be answered, and the next one come."""
        self._reached.clear()
        super().release()


class Killer:
    """Kills an agent at each point that is wanted, once at each."""

    def __init__(self, wants: Callable[[Point], bool]) -> None:
        self._wants = wants
        self.killed: list[Point] = []
        self.is_on = False

    def meet(self, point: Point, call: gate.Call) -> None:
        """Called in the gate's thread."""
        is_new = point.key not in {p.key for p in self.killed}
        if self.is_on and is_new and self._wants(point):
            self.killed.append(point)
            gate.kill(call.agent)
