"""Change settings of an etcd under systemd: in the file that counts, the bytes of that one value.

Each change is proved by reading the merged view again: exactly the wanted flags differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Optional

from agent.actions.kind import Flags, Texts
from agent.errors import Refused, UsageError
from agent.survey.envfile import is_plain, parse_env, quoted_like
from agent.survey.etcdyaml import parse_config
from agent.survey.unit import CONFIG_FILE, ENV_FILE, FLAG, Source, UnitView
from agent.survey.unitload import is_vendor

View = Callable[[Texts], UnitView]
"""Reads the merged view, with these contents instead of the files' own."""

_BY_HAND = "change it by hand, then: fab survey"
_WORD = re.compile(r"[\w@%+=:,./\[\]-]+")
_MAX_ROUNDS = 4


def change_flags(view: View, flags: Flags) -> Texts:
    """The new contents of the files that must change, so that etcd runs with these flags.

    A value is changed where it stands: in an environment file, a unit, or etcd's configuration
    file; a new one joins its like. Raises Refused, with what to do, where it cannot be done with
    certainty, and UsageError for a value that no flag can have.
    """
    before = view({})
    texts: Texts = {}
    for flag, value in flags.items():
        texts = {**texts, **_change(view, texts, flag, value)}
    after = view(texts)
    wanted = {**before.values, **{f: v for f, v in flags.items() if v is not None}}
    for flag, value in flags.items():
        if value is None:
            wanted.pop(flag, None)
    if after.values != wanted:
        raise Refused(
            f"{before.name}: {', '.join(flags)} cannot be changed without changing more",
            "reading it again gave other settings than the wanted ones",
            _BY_HAND,
        )
    return texts


def _change(view: View, texts: Texts, flag: str, value: Optional[str]) -> Texts:
    if value is not None and (not value.isprintable() or not value):
        raise UsageError(f"{value!r} cannot be the value of --{flag}")
    here = view(texts)
    if value is not None:
        if here.values.get(flag) == value:
            return {}
        path, text = _set(here, flag, value) if flag in here.values else _add(here, flag, value)
        return {path: text}
    done = dict(texts)
    for _round in range(_MAX_ROUNDS):  # a flag hides a variable of the same name
        here = view(done)
        if flag not in here.values:
            return done
        path, text = _remove(here, flag)
        done[path] = text
    raise _refuse(here.sources[flag], f"{flag} is set in more places than can be told apart")


def _refuse(source: Source, seen: str, next: str = _BY_HAND) -> Refused:
    return Refused(f"{source}: {seen}", "it cannot be changed with certainty", next)


def _require_ours(view: UnitView, flag: str, source: Source) -> None:
    if source.fixed:
        raise _refuse(source, f"{flag}: {source.fixed}")
    if is_vendor(source.file):
        raise Refused(
            f"{source}: {flag} is set in a file that belongs to a package",
            "the next update of the package would take the change back",
            f"systemctl edit --full {view.name}, then run this again",
        )


# ---- setting -------------------------------------------------------------------------------------


def _set(view: UnitView, flag: str, value: str) -> tuple[str, str]:
    source = view.sources[flag]
    _require_ours(view, flag, source)
    text = view.texts[source.file]
    if source.kind == ENV_FILE:
        new = _env_value(text, source, value)
    elif source.kind == CONFIG_FILE:
        new = _yaml_value(text, source, value)
    else:
        new = _unit_word(text[source.start : source.end], view.values[flag], value, source)
    return source.file, text[: source.start] + new + text[source.end :]


def _env_value(text: str, source: Source, value: str) -> str:
    given = next(a for a in parse_env(text) if a.start == source.start)
    if not is_plain(text, given):
        raise _refuse(source, f"{given.name} is written with escapes or in several quotes")
    return quoted_like(text, given, value)


def _yaml_value(text: str, source: Source, value: str) -> str:
    written = text[source.start : source.end]
    if written[:1] == "'" and written.endswith("'"):
        return "'" + value.replace("'", "''") + "'"
    if written[:1] == '"' and written.endswith('"') and "\\" not in written:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if written[:1] in "|>[{*&'\"" or "\n" in written:
        raise _refuse(source, "it is written as a block, as a list or over several lines")
    return _plain_yaml(value)


def _plain_yaml(value: str) -> str:
    return value if _WORD.fullmatch(value) and value[:1].isalpha() else f'"{value}"'


def _unit_word(written: str, old: str, value: str, source: Source) -> str:
    """A word of ExecStart= or Environment= with its value changed, its quotes kept."""
    if not _WORD.fullmatch(value):
        raise _refuse(source, f"the value {value!r} needs quotes")
    old, value = old.replace("%", "%%"), value.replace("%", "%%")
    if written.count(old) != 1 or not written.rstrip("\"'").endswith(old) or "\\" in written:
        raise _refuse(source, f"{written!r} is written in a way that is not understood here")
    return written.replace(old, value)


# ---- adding --------------------------------------------------------------------------------------


def _add(view: UnitView, flag: str, value: str) -> tuple[str, str]:
    """A setting that is given nowhere: it joins most of its like."""
    if view.config_file:
        return _add_to_config(view, flag, value)
    kinds = [view.sources[f] for f in view.values if not is_vendor(view.sources[f].file)]
    in_files = [s for s in kinds if s.kind == ENV_FILE]
    if in_files:
        return _add_to_env(view, flag, value, in_files)
    place = view.exec_setting
    source = Source(FLAG, view.exec_file, place.line)
    if any(s.fixed and s.kind == FLAG for s in view.sources.values()):
        source = Source(FLAG, view.exec_file, place.line, fixed="the flags stand in a script")
    _require_ours(view, flag, source)
    if not _WORD.fullmatch(value):
        raise _refuse(source, f"the value {value!r} needs quotes")
    text = view.texts[view.exec_file]
    added = f" --{flag}={value.replace('%', '%%')}"
    return view.exec_file, text[: place.end] + added + text[place.end :]


def _add_to_config(view: UnitView, flag: str, value: str) -> tuple[str, str]:
    path = view.config_file
    text = view.texts[path]
    empty = re.search(
        rf"^{re.escape(flag)}:[ \t]*(?:''|\"\")?(?=[ \t]*(?:#.*)?\r?$)", text, re.MULTILINE
    )
    if empty:
        return path, text[: empty.start()] + f"{flag}: {_plain_yaml(value)}" + text[empty.end() :]
    end = _line_end(text)
    if text and not text.endswith(("\n", "\r")):
        return path, f"{text}{end}{flag}: {_plain_yaml(value)}"
    return path, f"{text}{flag}: {_plain_yaml(value)}{end}"


def _add_to_env(view: UnitView, flag: str, value: str, near: list[Source]) -> tuple[str, str]:
    """A line of its own behind the last one that sets something of etcd, written like it."""
    last = [s for s in near if s.file == near[-1].file]
    source = max(last, key=lambda s: s.start)
    text = view.texts[source.file]
    neighbour = next(a for a in parse_env(text) if a.start == source.start)
    if not is_plain(text, neighbour):
        raise _refuse(source, "the line before the new one is not understood")
    indent = re.match(r"[ \t]*", text[neighbour.line_start :])
    name = "ETCD_" + flag.upper().replace("-", "_")
    line = f"{indent.group() if indent else ''}{name}={quoted_like(text, neighbour, value)}"
    end = re.compile(r"[\r\n]|$").search(text, source.end)
    place = end.start() if end else len(text)
    return source.file, text[:place] + _line_end(text) + line + text[place:]


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


# ---- removing ------------------------------------------------------------------------------------


def _remove(view: UnitView, flag: str) -> tuple[str, str]:
    source = view.sources[flag]
    _require_ours(view, flag, source)
    text = view.texts[source.file]
    if source.kind in (ENV_FILE, CONFIG_FILE):
        return source.file, _without_line(text, source, flag)
    before = text[: source.start].rstrip(" \t")
    written = text[source.start : source.end]
    if not re.search(r"[=]", written) and flag not in written:
        raise _refuse(source, f"--{flag} and its value are two words")
    if before.endswith("=") and source.kind != FLAG:
        start, end = _line_bounds(text, source.start)
        return source.file, text[:start] + text[end:]  # the only word of an Environment= line
    return source.file, before + text[source.end :]


def _without_line(text: str, source: Source, flag: str) -> str:
    if source.kind == CONFIG_FILE:
        _document, entries = parse_config(text, source.file)
        start = entries[flag].key.start_mark.index
    else:
        start = source.start
    start, _ = _line_bounds(text, start)
    _, end = _line_bounds(text, source.end)
    if "\n" in text[start:end].rstrip("\r\n"):
        raise _refuse(source, f"{flag} is written over several lines")
    if end == len(text) and not text.endswith(("\n", "\r")):
        return text[:start].removesuffix("\n").removesuffix("\r")
    return text[:start] + text[end:]


def _line_bounds(text: str, place: int) -> tuple[int, int]:
    """(start of the line, start of the next one) around `place`."""
    start = max(text.rfind("\n", 0, place), text.rfind("\r", 0, place)) + 1
    found = re.compile(r"\r\n|\r|\n").search(text, place)
    return start, found.end() if found else len(text)
