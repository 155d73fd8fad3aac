"""Change one flag in the text of a manifest: the bytes of that argument, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from yaml.nodes import Node, ScalarNode, SequenceNode

from agent.errors import Refused, RescueError, UsageError
from agent.survey.flags import CommandLine, Given, from_environment, parse_argv
from agent.survey.pod import etcd_arguments, parse_pod
from agent.survey.podyaml import Document, compose, data, get, line

_STRING = "tag:yaml.org,2002:str"
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_BULLET = re.compile(r" *-[ \t]+")
_NO_STRING = re.compile(r"[-+.]*\d|(?:y|n|yes|no|on|off|true|false|null|~|)$", re.IGNORECASE)
_BY_HAND = "change it by hand, then: fab survey"


@dataclass(frozen=True)
class _Item:
    """One argument: its node, the list it is in, and its place there."""

    node: ScalarNode
    owner: SequenceNode
    place: int

    @property
    def start(self) -> int:
        return int(self.node.start_mark.index)

    @property
    def end(self) -> int:
        return int(self.node.end_mark.index)


@dataclass(frozen=True)
class _Manifest:
    """A parsed manifest. items: etcd's arguments; last: where a further one would follow."""

    text: str
    path: str
    document: Document
    items: tuple[_Item, ...]
    last: Optional[_Item]
    line: CommandLine
    environment: dict[str, str]

    def refuse(self, where: Optional[_Item], seen: str, next: str = _BY_HAND) -> Refused:
        """Refused, naming the file and the line."""
        at = f"line {line(where.node)}: " if where else ""
        return Refused(f"{self.path}: {at}{seen}", "it cannot be changed with certainty", next)


def get_flag(text: str, flag: str, path: str = "the manifest") -> Optional[str]:
    """The flag's value as written in etcd's arguments, "true" for a bare one; None if not given.

    Variables (ETCD_*) are not looked at. Raises what set_flag raises.
    """
    found = _find(_open(text, path), flag)
    return found.value if found else None


def set_flag(text: str, flag: str, value: str, path: str = "the manifest") -> str:
    """The text with the value of a given flag changed; order, quotes and comments stay.

    A plain scalar that cannot hold the new value is put in double quotes; a bare boolean flag gets
    its value with `=`. Raises Damaged where the text is not a readable Pod, UsageError for a name
    or value that no flag can have, and Refused, with what to do, where the flag is missing or
    given twice, where etcd starts through a script, where aliases share the argument, or where it
    is written over several lines.
    """
    manifest = _open_to_edit(text, path, value)
    given = _find(manifest, flag)
    if given is None:
        raise manifest.refuse(None, f"--{flag} is not among etcd's arguments")
    if given.value_index is not None:
        item, new = manifest.items[given.value_index], value
    else:
        item = manifest.items[given.index]
        new = f"{item.node.value.split('=')[0]}={value}"
    if item.node.value == new:
        return text
    _require_simple(manifest, item)

    def change(lists: dict[int, Any]) -> None:
        lists[id(item.owner)][item.place] = (_STRING, new)

    flags = {**manifest.line.values(), flag: value}
    for token in _tokens(new, item.node.style):
        after = text[: item.start] + token + text[item.end :]
        if _proves(manifest, after, change, flags):
            return after
    raise manifest.refuse(item, f"--{flag} cannot be given the value {value!r} in place")


def add_flag(text: str, flag: str, value: str, path: str = "the manifest") -> str:
    """The text with `--flag=value` as a new last argument of etcd, in the style of the one before.

    Raises what set_flag raises, and Refused where the flag is given already.
    """
    manifest = _open_to_edit(text, path, value)
    last = manifest.last
    if _find(manifest, flag) is not None:
        raise manifest.refuse(None, f"--{flag} is among etcd's arguments already")
    if last is None:
        raise manifest.refuse(None, "etcd has no list of arguments to add to")
    _require_simple(manifest, last)
    new = f"--{flag}={value}"

    def change(lists: dict[int, Any]) -> None:
        lists[id(last.owner)].append((_STRING, new))

    flags = {**manifest.line.values(), flag: value}
    for token in _tokens(new, last.node.style):
        after = _with_item(manifest, last, token)
        if _proves(manifest, after, change, flags):
            return after
    raise manifest.refuse(last, f"{new} cannot be added behind this argument")


def remove_flag(text: str, flag: str, path: str = "the manifest") -> str:
    """The text without a given flag; a comment on the same line goes with it.

    Raises what set_flag raises, and Refused where an ETCD_ variable sets the flag as well.
    """
    manifest = _open_to_edit(text, path)
    given = _find(manifest, flag)
    if given is None:
        raise manifest.refuse(None, f"--{flag} is not among etcd's arguments")
    if flag in manifest.environment:
        raise manifest.refuse(None, f"the environment sets --{flag} as well; it would still hold")
    places = [i for i in (given.value_index, given.index) if i is not None]
    items = [manifest.items[place] for place in places]
    after = text
    for place, item in zip(places, items):
        _require_simple(manifest, item)
        after = _without_item(_open(after, path), place)

    def change(lists: dict[int, Any]) -> None:
        for item in items:
            del lists[id(item.owner)][item.place]

    flags = {name: v for name, v in manifest.line.values().items() if name != flag}
    if not _proves(manifest, after, change, flags):
        raise manifest.refuse(items[-1], f"--{flag} cannot be taken out of this list")
    return after


# ---- reading -------------------------------------------------------------------------------------


def _open(text: str, path: str, value: str = "") -> _Manifest:
    if not value.isprintable():
        raise UsageError(f"{value!r} cannot be the value of a flag: it has control characters")
    pod = parse_pod(text, path)
    spec = pod.etcd()
    if spec is None:
        raise Refused(f"{path}: no container of this pod runs etcd", "there is nothing to change")
    arguments = etcd_arguments(spec, path)
    items = [*_items(get(spec.node, "command")), *_items(get(spec.node, "args"))]
    own = items[len(items) - len(arguments) :]
    command_line = parse_argv([item.node.value for item in own])
    last = items[-1] if items else None
    environment = from_environment(spec.env)
    manifest = _Manifest(text, path, pod.document, tuple(own), last, command_line, environment)
    if command_line.stray:
        raise manifest.refuse(None, f"etcd stops reading its flags at {command_line.stray!r}")
    return manifest


def _open_to_edit(text: str, path: str, value: str = "") -> _Manifest:
    """As _open; refused where etcd would not look at its flags at all."""
    manifest = _open(text, path, value)
    if "config-file" in {**manifest.environment, **manifest.line.values()}:
        raise Refused(
            f"{path}: etcd is configured by --config-file",
            "it ignores every other flag then, so a change here would do nothing",
            "make the change in that file, then: fab survey",
        )
    return manifest


def _items(node: Optional[Node]) -> list[_Item]:
    if not isinstance(node, SequenceNode):
        return []
    return [_Item(item, node, place) for place, item in enumerate(node.value)]


def _find(manifest: _Manifest, flag: str) -> Optional[Given]:
    if not _NAME.fullmatch(flag):
        raise UsageError(f"{flag!r} is not the name of a flag: lower-case letters, digits, dashes")
    found = manifest.line.all(flag)
    if len(found) > 1:
        lines = ", ".join(str(line(manifest.items[given.index].node)) for given in found)
        raise manifest.refuse(
            None, f"--{flag} is given {len(found)} times (lines {lines})", "leave one of them"
        )
    return found[0] if found else None


def _require_simple(manifest: _Manifest, item: _Item) -> None:
    """Refuse an argument that is shared by aliases, or not written as one plain or quoted word."""
    for node in manifest.document.anchored:
        if node.start_mark.index <= item.start and item.end <= node.end_mark.index:
            raise manifest.refuse(item, "this argument is shared through an anchor (&)")
    written = manifest.text[item.start : item.end]
    if written != _token(item.node.value, item.node.style):
        seen = "this argument is written over several lines, as a block or with escapes"
        raise manifest.refuse(item, seen, "write it as one word on one line, then: fab survey")


# ---- writing -------------------------------------------------------------------------------------


def _token(value: str, style: Optional[str]) -> Optional[str]:
    """A scalar as one word in this style; None for a block scalar's."""
    if style == "'":
        return "'" + value.replace("'", "''") + "'"
    if style == '"':
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return None if style else value


def _tokens(value: str, style: Optional[str]) -> list[str]:
    """The word in its neighbour's style, then in double quotes.

    What one YAML parser takes for a number or a truth value, another may not: never plain.
    """
    is_plain = not style and not _NO_STRING.match(value)
    words = [_token(value, style) if style or is_plain else None, _token(value, '"')]
    return [word for word in words if word is not None]


def _with_item(manifest: _Manifest, last: _Item, token: str) -> str:
    text = manifest.text
    if last.owner.flow_style:
        return text[: last.end] + _separator(text, last) + token + text[last.end :]
    start, end = _line_of(text, last.end)
    bullet = _bullet(manifest, last, start)
    return text[:end] + _line_break(text, end) + bullet + token + text[end:]


def _separator(text: str, last: _Item) -> str:
    """What stands between the last two items of a flow list, where it is blanks and a comma."""
    if last.place:
        before = last.owner.value[last.place - 1]
        between = text[before.end_mark.index : last.start]
        if not between.replace(",", "", 1).strip():
            return between
    return ", "


def _without_item(manifest: _Manifest, place: int) -> str:
    text, item = manifest.text, manifest.items[place]
    siblings = item.owner.value
    if item.owner.flow_style:
        start, end = item.start, item.end
        if item.place:
            start = siblings[item.place - 1].end_mark.index
        elif len(siblings) > 1:
            end = siblings[1].start_mark.index
        if "#" in text[start : item.start] + text[item.end : end]:
            raise manifest.refuse(item, "a comment stands between this argument and the next")
    else:
        start, end = _line_of(text, item.end)
        _bullet(manifest, item, start)
        start -= len(_line_break(text, start, backwards=True))
    return text[:start] + text[end:]


def _bullet(manifest: _Manifest, item: _Item, line_start: int) -> str:
    """Indentation and dash before an item; refused where anything else shares the line."""
    bullet = manifest.text[line_start : item.start]
    if not _BULLET.fullmatch(bullet):
        raise manifest.refuse(item, "this argument does not stand on a line of its own")
    return bullet


def _line_of(text: str, place: int) -> tuple[int, int]:
    """(start, end) of the line around `place`, without its line break."""
    start = max(text.rfind("\n", 0, place), text.rfind("\r", 0, place)) + 1
    found = re.compile(r"[\r\n]").search(text, place)
    return start, found.start() if found else len(text)


def _line_break(text: str, place: int, backwards: bool = False) -> str:
    """The line break at `place` (or just before it); at the end of the text, the usual one."""
    near = text[max(place - 2, 0) : place] if backwards else text[place : place + 2]
    if near == "\r\n":
        return near
    near = near[-1:] if backwards else near[:1]
    if near in ("\r", "\n"):
        return near
    return "\r\n" if "\r\n" in text else "\n"


def _proves(
    before: _Manifest,
    after: str,
    change: Callable[[dict[int, Any]], None],
    flags: dict[str, str],
) -> bool:
    """Whether the new text reads as the old one with exactly this change, YAML and flags both."""
    memo: dict[int, Any] = {}
    expected = data(before.document.root, memo)
    change(memo)
    try:
        found = data(compose(after, before.path).root, {})
        return bool(found == expected and _open(after, before.path).line.values() == flags)
    except RescueError:
        return False
