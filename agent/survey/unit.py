"""What an etcd under systemd will run with, and where each value comes from: one merged view.

Order of systemd: the unit, then its drop-ins; a file of EnvironmentFile= wins over Environment=, a
later file over an earlier one. Order of etcd: a flag wins over its ETCD_ variable; with
--config-file that file is all that counts (server/etcdmain/config.go, parse).
"""

from __future__ import annotations

import posixpath
import re
import stat
from dataclasses import dataclass, field

from agent.errors import Damaged, RescueError
from agent.host import Host
from agent.survey.envfile import Assignment, parse_env
from agent.survey.etcdyaml import parse_config
from agent.survey.execline import Argument, Command, command
from agent.survey.flags import from_environment, parse_argv
from agent.survey.redact import shown_variable
from agent.survey.unitfile import Setting, Word, parse_unit, specifiers, words
from agent.survey.unitload import MAX_FILE, UnitFiles

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_MAX_FILES = 64
FLAG, ENVIRONMENT, ENV_FILE, CONFIG_FILE = "flag", "environment", "env-file", "config-file"


@dataclass(frozen=True)
class Source:
    """Where one value stands. kind: flag, environment, env-file or config-file.

    start, end: what is written for it, as offsets in the file's text; line counts from 1.
    fixed: why it cannot be changed in place; empty where it can.
    """

    kind: str
    file: str
    line: int
    start: int = 0
    end: int = 0
    fixed: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Variable:
    """One variable of the unit's environment."""

    value: str
    source: Source


_NONE = Setting("", "", "", (), 0, 0)


@dataclass
class UnitView:
    """The merged view. texts: every file read, by path. values, sources: by flag.

    exec_file, exec_setting: the ExecStart= that counts. program: the etcd that it runs.
    """

    name: str
    texts: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    env_files: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    service: dict[str, str] = field(default_factory=dict)
    exec_file: str = ""
    exec_setting: Setting = _NONE
    program: str = ""
    config_file: str = ""
    repeated: tuple[str, ...] = ()
    stray: str = ""

    def note(self, problem: str) -> None:
        """Add a problem."""
        if problem not in self.problems:
            self.problems.append(problem)


def read_text(host: Host, path: str) -> str:
    """A small text file; bytes that are no UTF-8 are kept as surrogates, and written back as such.

    Not Host.read_text: a comment in another encoding is no reason to give an etcd up. Raises
    Damaged for what is no regular file: a pipe would hold the reader up for ever.
    """
    if not stat.S_ISREG(host.stat(path).st_mode):
        raise Damaged(f"{path} is no regular file", "settings are read from regular files only")
    return host.read_bytes(path, MAX_FILE).decode("utf-8", "surrogateescape")


def merge(host: Host, files: UnitFiles, texts: dict[str, str]) -> UnitView:
    """Read a unit with everything it leads to. texts: contents to take instead of a file's own.

    Raises Refused where it does not run etcd directly, Damaged for a file that cannot be read.
    """
    view = UnitView(files.name)
    settings = []
    for path in files.files:
        view.texts[path] = texts[path] if path in texts else read_text(host, path)
        settings += [(path, s) for s in parse_unit(view.texts[path]) if s.section == "Service"]
    known = _specifiers(host, files)
    _environment(view, settings, known)
    _env_files(host, view, settings, known, texts)
    _unset(view, settings)
    done = _exec(view, settings, files, known)
    _flags(host, view, done, texts)
    return view


def _specifiers(host: Host, files: UnitFiles) -> dict[str, str]:
    """The specifiers that occur around etcd (systemd.unit(5), "SPECIFIERS")."""
    stem = files.name.rpartition(".")[0]
    prefix, _, instance = stem.partition("@")
    name = host.hostname()
    return {
        "n": files.name, "N": stem, "p": prefix, "i": instance, "I": instance, "j": prefix,
        "H": name, "l": name.partition(".")[0], "m": host.machine_id(), "h": "/root", "u": "root",
        "U": "0", "E": "/etc", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "t": "/run",
        "T": "/tmp", "V": "/var/tmp",
    }  # fmt: skip


def _told(view: UnitView, text: str, known: dict[str, str], where: str) -> str:
    def unknown(what: str) -> None:
        view.note(f"{where}: the specifier {what} is not known here")

    return specifiers(text, known, unknown)


_Settings = list[tuple[str, Setting]]


def _environment(view: UnitView, settings: _Settings, known: dict[str, str]) -> None:
    for path, setting in settings:
        where = f"{path}:{setting.line}"
        if setting.key == "Environment":
            if not setting.value:
                view.variables.clear()
            for word in words(setting):
                found = _VARIABLE.fullmatch(_told(view, word.text, known, where))
                if found is None:
                    view.note(f"{where}: a word of Environment= is not NAME=VALUE")
                    continue
                source = Source(ENVIRONMENT, path, setting.line, word.start, word.end, _fixed(word))
                view.variables[found.group(1)] = Variable(found.group(2), source)
        elif setting.key == "PassEnvironment" and "ETCD_" in setting.value:
            view.note(f"{where}: variables come from systemd's own environment: {setting.value}")
        elif setting.key not in ("ExecStart", "EnvironmentFile"):
            view.service[setting.key] = setting.value


def _fixed(word: Word) -> str:
    return "" if word.is_one_line else "it is written over several lines"


def _env_files(
    host: Host, view: UnitView, settings: _Settings, known: dict[str, str], texts: dict[str, str]
) -> None:
    """EnvironmentFile= in order; `-` in front: it may be missing; a path may be a pattern."""
    listed: list[tuple[str, bool, str]] = []
    for path, setting in settings:
        if setting.key != "EnvironmentFile":
            continue
        where = f"{path}:{setting.line}"
        if not setting.value:
            listed.clear()
            continue
        may_miss = setting.value.startswith("-")
        name = _told(view, setting.value[1:] if may_miss else setting.value, known, where)
        if not name.startswith("/"):
            view.note(f"{where}: EnvironmentFile={name} is no absolute path: systemd ignores it")
            continue
        listed.append((name, may_miss, where))
    for pattern, may_miss, where in listed:
        found = _matching(host, pattern)
        if not found and not may_miss:
            view.note(f"{where}: {pattern} is missing: systemd will not start the unit")
        for name in found:
            _env_file(host, view, name, texts)


def _matching(host: Host, pattern: str) -> list[str]:
    """The files that a path with * or ? in its last part means, in order."""
    folder, last = posixpath.split(pattern)
    if not re.search(r"[*?\[]", last):
        return [pattern] if host.exists(pattern) else []
    import fnmatch

    names = [n for n in host.listdir(folder) if fnmatch.fnmatchcase(n, last)]
    return [f"{folder}/{name}" for name in names[:_MAX_FILES]]


def _env_file(host: Host, view: UnitView, path: str, texts: dict[str, str]) -> None:
    view.texts[path] = text = texts[path] if path in texts else read_text(host, path)
    if path not in view.env_files:
        view.env_files.append(path)
    for given in parse_env(text):
        if not given.is_valid:
            if "ETCD_" in given.name:
                view.note(f"{path}:{given.line}: {given.name!r} is not taken by systemd")
            continue
        if given.name.startswith("ETCD_") and re.search(r"\s#", given.value):
            view.note(
                f"{path}:{given.line}: {given.name}: what follows its value is no comment to "
                "systemd, but part of the value"
            )
        source = Source(
            ENV_FILE, path, given.line, given.start, given.end, _fixed_assignment(text, given)
        )
        view.variables[given.name] = Variable(given.value, source)


def _fixed_assignment(text: str, given: Assignment) -> str:
    if "\n" in text[given.start : given.end].strip():
        return "it is written over several lines"
    if re.search(r"\s#", given.value):
        return "what follows it looks like a comment and is part of the value"
    return ""


def _unset(view: UnitView, settings: _Settings) -> None:
    for _path, setting in settings:
        if setting.key == "UnsetEnvironment":
            for word in words(setting):
                view.variables.pop(word.text.partition("=")[0], None)


def _exec(view: UnitView, settings: _Settings, files: UnitFiles, known: dict[str, str]) -> Command:
    chosen: list[tuple[str, Setting]] = []
    for path, setting in settings:
        if setting.key == "ExecStart":
            chosen = [*chosen, (path, setting)] if setting.value else []
    where = files.fragment or files.name
    if not chosen:
        raise Damaged(f"{where}: no ExecStart=", "nothing says how etcd is started")
    if len(chosen) > 1:
        view.note(f"{where}: ExecStart= is given {len(chosen)} times: systemd refuses the unit")
    view.exec_file, view.exec_setting = chosen[-1]
    where = f"{view.exec_file}:{view.exec_setting.line}"
    if "RootDirectory" in view.service or "RootImage" in view.service:
        view.note(f"{where}: the unit has a root directory of its own; paths are not the host's")
    env = {name: variable.value for name, variable in view.variables.items()}
    told = [
        Word(_told(view, w.text, known, where), w.start, w.end, w.is_one_line)
        for w in words(view.exec_setting)
    ]
    done = command(told, env, where)
    view.program = done.program
    return done


def _flags(host: Host, view: UnitView, done: Command, texts: dict[str, str]) -> None:
    line = parse_argv([a.text for a in done.arguments])
    env = {name: v.value for name, v in view.variables.items()}
    for flag, value in from_environment(env).items():
        variable = view.variables["ETCD_" + flag.upper().replace("-", "_")]
        view.values[flag], view.sources[flag] = value, variable.source
    for given in line.given:
        used = done.arguments[given.index if given.value_index is None else given.value_index]
        if given.name in view.values and given.name in from_environment(env):
            view.note(
                f"{view.exec_file}:{view.exec_setting.line}: --{given.name} is a flag, and a "
                f"variable as well ({view.sources[given.name]}): etcd 3.4 and later will not start"
            )
        before = "" if given.value_index is not None else used.raw.partition("=")[0] + "="
        view.values[given.name] = given.value
        view.sources[given.name] = _flag_source(view, used, before, given.value)
    view.stray, view.repeated = line.stray, line.repeated()
    config = view.values.get("config-file", "")
    if config:
        _config_file(host, view, config, texts)


def _flag_source(view: UnitView, used: Argument, before: str, value: str) -> Source:
    """A flag's own word; or, where that is one variable, where the variable stands."""
    name = used.variable(before)
    if name in view.variables and view.variables[name].value == value:
        return view.variables[name].source
    place, number = view.exec_file, view.exec_setting.line
    if used.is_script or used.word is None:
        return Source(FLAG, place, number, fixed="it stands in the script of a shell")
    fixed = "it is put together from variables" if "$" in used.raw else _fixed(used.word)
    if name and name not in view.variables:
        fixed = f"it is ${{{name}}}, which nothing sets"
    number = view.texts[place].count("\n", 0, used.word.start) + 1
    return Source(FLAG, place, number, used.word.start, used.word.end, fixed)


def _config_file(host: Host, view: UnitView, config: str, texts: dict[str, str]) -> None:
    """With --config-file nothing else counts: flags and variables are put aside."""
    path = posixpath.normpath(posixpath.join(view.service.get("WorkingDirectory", "/"), config))
    view.config_file = path
    try:
        text = texts[path] if path in texts else read_text(host, path)
    except FileNotFoundError:
        raise Damaged(
            f"{path} is missing; {view.sources['config-file']} names it as --config-file",
            "etcd reads that file and nothing else, and will not start without it",
        ) from None
    view.texts[path] = text
    ignored = sorted(flag for flag in view.values if flag != "config-file")
    if ignored:
        view.note(
            f"{path}: etcd reads this file and nothing else (--config-file); ignored: "
            + ", ".join(f"{flag} ({view.sources[flag]})" for flag in ignored)
        )
    view.values.clear()
    view.sources.clear()
    _document, entries = parse_config(text, path)
    for flag, entry in entries.items():
        start, end = entry.node.start_mark.index, entry.node.end_mark.index
        view.values[flag] = shown_variable(flag, entry.value)
        number = int(entry.key.start_mark.line) + 1
        view.sources[flag] = Source(CONFIG_FILE, path, number, start, end)


def told(error: RescueError) -> str:
    """An error in one line."""
    return "; ".join(part for part in (error.seen, error.why, error.next) if part)
