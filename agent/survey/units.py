"""The unit that runs etcd: in place or held back, and what else here would start an etcd."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from hashlib import sha256
from typing import Optional

from agent.errors import Damaged, Refused, RescueError
from agent.host import Host
from agent.model.facts import EtcdConfig, Stray
from agent.platforms.base import Platform
from agent.survey.flags import CommandLine, Given
from agent.survey.settings import Settings, settle
from agent.survey.unit import ENV_FILE, ENVIRONMENT, UnitView, merge, read_text, told
from agent.survey.unitfile import parse_unit
from agent.survey.unitload import ADMIN_DIR, UnitFiles, find_unit, is_enabled

BLOCK_NAME = "zz-etcd-rescue.conf"
"""The drop-in that keeps a parked unit from starting; its name sorts behind all others."""


def block_path(unit: str) -> str:
    """Where the drop-in of a parked unit lies."""
    return f"{ADMIN_DIR}/{unit}.d/{BLOCK_NAME}"


def read_unit(
    host: Host, platform: Platform
) -> tuple[Optional[EtcdConfig], tuple[Stray, ...], tuple[str, ...]]:
    """(what etcd will run with, other units that also run it, problems).

    No config where the unit is missing, masked or parked, or where it cannot be read.
    """
    strays = _strays(host, platform)
    if host.exists(block_path(platform.unit)):
        return None, strays, ()
    files = _files(host, platform.unit)
    if not files.fragment and not files.masked_by:
        missing = f"no unit {platform.unit}: put it back from a backup, or install etcd's package"
        return None, strays, (missing,)
    if files.masked_by:
        masked = f"{platform.unit} is masked ({files.masked_by}): systemctl unmask {platform.unit}"
        return None, strays, (masked,)
    try:
        return unit_config(host, platform), strays, ()
    except RescueError as error:
        return None, strays, (told(error),)
    except OSError as error:
        return None, strays, (f"{error.filename}: {error.strerror}",)


def fragment_of(host: Host, unit: str) -> str:
    """The unit's own file, whatever stands in front of it; empty where there is none."""
    return _files(host, unit).fragment


def is_startable(host: Host, unit: str) -> bool:
    """True if there is a unit that is not masked; our own block is looked past."""
    files = _files(host, unit)
    return bool(files.fragment) and not files.masked_by


def _files(host: Host, unit: str) -> UnitFiles:
    return find_unit(host, unit, without=block_path(unit))


def read_view(host: Host, unit: str, texts: Optional[dict[str, str]] = None) -> UnitView:
    """The merged view of a unit, our own block looked past. texts: contents to take instead.

    Raises Refused where there is none or where it does not run etcd, Damaged for a file that cannot
    be read.
    """
    files = _files(host, unit)
    if not files.fragment:
        raise Refused(f"no unit {unit} on this host", "nothing says how its etcd is meant to run")
    try:
        return merge(host, files, texts or {})
    except FileNotFoundError as error:
        raise Damaged(f"{error.filename}: went away while it was being read") from None


def unit_digest(host: Host, unit: str, texts: Optional[dict[str, str]] = None) -> str:
    """sha256 over all files of the definition, with their names; empty where there is no unit."""
    try:
        return _digest(read_view(host, unit, texts))
    except (RescueError, OSError):
        return ""


def _digest(view: UnitView) -> str:
    found = sha256()
    for path in sorted(view.texts):
        data = view.texts[path].encode("utf-8", "surrogateescape")
        found.update(f"{path}\0{len(data)}\0".encode("utf-8", "surrogateescape") + data)
    return found.hexdigest()


def unit_config(host: Host, platform: Platform) -> EtcdConfig:
    """What the etcd of the platform's unit will run with; raises what read_view raises."""
    view = read_view(host, platform.unit)
    return view_config(view, _files(host, platform.unit).fragment)


def view_config(view: UnitView, fragment: str) -> EtcdConfig:
    """A merged view as etcd's configuration; sources say FILE:LINE of every value."""
    given: list[Given] = []
    environment: dict[str, str] = {}
    for flag, value in view.values.items():
        if view.sources[flag].kind in (ENV_FILE, ENVIRONMENT):
            environment[flag] = value
        else:
            given.append(Given(flag, value, len(given)))
    settings = Settings(
        fragment,
        CommandLine(tuple(given), view.stray),
        environment,
        lambda path: (path, ""),
        _working_dir(view),
    )
    for name in view.repeated:
        settings.note(f"--{name} is given more than once; the last one counts")
    settings.problems += view.problems
    config = settle(settings, _digest(view))
    sources = {flag: str(source) for flag, source in view.sources.items()}
    return replace(config, sources=sources, files=tuple(view.texts), program=view.program)


def _working_dir(view: UnitView) -> str:
    """WorkingDirectory=, which decides where a relative data directory lies."""
    told_dir = view.service.get("WorkingDirectory", "").lstrip("-")
    return "/root" if told_dir == "~" else told_dir


def _strays(host: Host, platform: Platform) -> tuple[Stray, ...]:
    """Other units that are enabled and run an etcd: after a boot there would be two."""
    found = []
    for name in host.listdir(ADMIN_DIR):
        path = posixpath.join(ADMIN_DIR, name)
        if name == platform.unit or not name.endswith(".service") or host.is_dir(path):
            continue
        if posixpath.basename(host.realpath(path)) == platform.unit:
            continue  # an alias
        try:
            if not host.exists(path) or not is_enabled(host, name):
                continue
            programs = _programs(read_text(host, path))
        except (OSError, RescueError):
            continue
        if "etcd" in programs:
            found.append(Stray(path, f"also runs etcd, and is enabled, beside {platform.unit}"))
    return tuple(found)


def _programs(text: str) -> set[str]:
    starts = [s.value.split() for s in parse_unit(text) if s.key == "ExecStart" and s.value]
    return {posixpath.basename(words[0].lstrip("@-:+!|")) for words in starts if words}
