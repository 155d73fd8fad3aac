"""One lab at a time for a whole run of tests: reset where possible, else rebuilt."""

from __future__ import annotations

from typing import Any

from tests.lab.commands import CommandFailed
from tests.lab.lab import Lab


class LabPool:
    """Hands out fresh labs."""

    def __init__(self) -> None:
        self._lab: Lab | None = None
        self._asked: dict[str, Any] = {}

    def get(self, **options: Any) -> Lab:
        """A lab as Lab.start(**options) would give it."""
        if self._lab and options == self._asked:
            try:
                self._lab.reset()
            except (TimeoutError, RuntimeError, CommandFailed):
                self.close()
        elif self._lab:
            self.close()
        if not self._lab:
            self._asked = options
            self._lab = Lab.start(**options)
        return self._lab

    def close(self) -> None:
        """End the lab."""
        if self._lab:
            self._lab.stop()
        self._lab = None
