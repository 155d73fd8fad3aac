"""A known defect of an etcd version, as a fact about a host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """What is wrong with `version`, what that means for a rescue, and who says so.

    recipes: those that it touches; empty for all. fixed: the first version of that minor without
    it, empty where there is none. source: a release note, a pull request or an issue.
    """

    key: str
    version: str
    summary: str
    meaning: str
    recipes: tuple[str, ...]
    fixed: str
    source: str
