"""Faults on demand: a file of rules that every request is held against."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FAULTS = {
    "forbidden": "RBAC denies it, with 403",
    "conflict": "somebody else changed it meanwhile, 409",
    "throttle": "429 with Retry-After: 1",
    "webhook": "an admission webhook denies it, 400",
    "webhook-down": "the API server cannot reach an admission webhook, 500",
    "timeout": "the store does not answer in time, 500",
    "unavailable": "503, as from a load balancer without a backend",
    "reset": "the connection is reset in the middle of the answer",
    "done-then-reset": "it is carried out, and the connection is reset before the answer",
    "hang": "no answer at all",
    "unauthorized": "the certificate is not taken any more, 401",
    "gone": "the connection is reset before TLS: nothing serves there",
}
"""What a rule can do → what that is."""


@dataclass(frozen=True)
class Fault:
    """One rule. verbs, resource, name: which requests; empty for all. times: 0 for ever.

    after: requests of this kind that pass unharmed first. verbs are RBAC's.
    """

    kind: str
    verbs: tuple[str, ...] = ()
    resource: str = ""
    name: str = ""
    times: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"no fault {self.kind!r}; known: {', '.join(FAULTS)}")


@dataclass(frozen=True)
class Asked:
    """One request in RBAC's words."""

    verb: str
    resource: str
    name: str


class Faults:
    """The rules of a file, read anew whenever it changes; and how often each was met."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._text = ""
        self._rules: list[Fault] = []
        self._met: dict[int, int] = {}
        self._guard = threading.Lock()

    def meet(self, asked: Asked) -> str:
        """The kind of the fault that this request meets; empty for none."""
        with self._guard:
            self._read()
            for number, rule in enumerate(self._rules):
                if not _fits(rule, asked):
                    continue
                count = self._met[number] = self._met.get(number, 0) + 1
                if count > rule.after and (not rule.times or count <= rule.after + rule.times):
                    return rule.kind
        return ""

    def denies(self, asked: Asked) -> bool:
        """Whether RBAC would deny it; asking is not counted."""
        with self._guard:
            self._read()
            return any(r.kind == "forbidden" and _fits(r, asked) for r in self._rules)

    def _read(self) -> None:
        try:
            text = self._path.read_text() if self._path else ""
        except OSError:
            text = ""
        if text != self._text:
            self._text, self._met = text, {}
            self._rules = [_rule(row) for row in json.loads(text or "[]")]


def _rule(row: dict[str, Any]) -> Fault:
    return Fault(**{**row, "verbs": tuple(row.get("verbs", ()))})


def _fits(rule: Fault, asked: Asked) -> bool:
    return (
        (not rule.verbs or asked.verb in rule.verbs)
        and rule.resource in ("", asked.resource)
        and rule.name in ("", asked.name)
    )


def to_text(rules: list[Fault]) -> str:
    """What a file of these rules says."""
    return json.dumps([asdict(rule) for rule in rules])
