"""YAML that somebody else wrote, read with limits: no aliases, no duplicate keys, no depth."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from agent.errors import UsageError

MAX_SIZE = 1024 * 1024
_MAX_DEPTH = 20
_MAX_NODES = 20_000
"""What 256 hosts need ten times over, read in a second; 1 MiB of dashes would take a minute."""

_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path) -> Any:
    """The one document of a file. Raises UsageError with file, line and reason."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, where: str, opaque: tuple[str, ...] = ()) -> Any:
    """The one document in `data`. Raises UsageError with `where`, line and reason.

    opaque: tags (!vault) whose values are kept as the text that stands there.
    """
    if len(data) > MAX_SIZE:
        raise UsageError(f"{where}: larger than {MAX_SIZE} bytes")
    try:
        return yaml.load(data.decode(), Loader=_loader(opaque))  # noqa: S506 - a SafeLoader
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8 at offset {error.start}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{where}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:  # e.g. a date that is none
        raise UsageError(f"{where}: {error}") from None


class _Strict(yaml.SafeLoader):
    """A SafeLoader that refuses what can blow up, or hide one value behind another."""

    _depth = 0
    _count = 0

    def compose_node(self, parent: Any, index: int) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._refuse("aliases (*name) are not allowed here", event)
        self._depth += 1
        self._count += 1
        if self._count > _MAX_NODES:
            self._refuse(f"more than {_MAX_NODES} values", event)
        if self._depth > _MAX_DEPTH:
            self._refuse(f"nested more than {_MAX_DEPTH} levels deep", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                self._refuse("a key is a plain word here", key)
            if key.value in seen:
                self._refuse(f"the key {key.value!r} is there twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def _refuse(self, problem: str, place: Any) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _loader(opaque: tuple[str, ...]) -> type[_Strict]:
    class Loader(_Strict):
        pass

    for tag in opaque:
        Loader.add_constructor(tag, lambda _loader, node: str(node.value))
    return Loader
