"""One action in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ActionSpec:
    """title: what it does; precondition: when it may; undo: how it is taken back.

    final: from here on there is no way back. effects: False for an action that only looks.
    """

    name: str
    title: str
    precondition: str
    undo: str
    final: bool = False
    effects: bool = True
