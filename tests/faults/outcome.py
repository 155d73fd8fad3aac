"""What came of a trial."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Outcome:
    """What came of a trial: passed, failed or missed (its point was not reached).

    recipe: the row. killed: how many points. way: how it was finished. seconds: of the trial;
    again_seconds: of the same command once more.
    """

    recipe: str
    kind: str
    how: str
    point: str
    label: str
    outcome: str = "passed"
    way: str = ""
    seconds: float = 0.0
    again_seconds: float = 0.0
    killed: int = 1
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """For a line of the results file."""
        return asdict(self)
