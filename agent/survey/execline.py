"""ExecStart=: the arguments that etcd is started with, and which word or variable each is from.

Source: systemd.service(5), "COMMAND LINES"; src/basic/env-util.c (replace_env_argv).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from agent.errors import Refused
from agent.survey.unitfile import Word

SHELLS = frozenset({"sh", "bash", "ash", "dash"})
_PREFIXES = "@-:+!|"
_ALONE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_BRACED = re.compile(r"\$(\$|\{[A-Za-z_][A-Za-z0-9_]*\})")
_SHELL_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_ASSIGNED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_NPROC = re.compile(r"\$\(nproc\)|`nproc`")
_UNSAFE = re.compile(r"[;&|<>()`*?\[\]{}~\n#!]")


@dataclass(frozen=True)
class Argument:
    """One argument. text: as etcd gets it; raw: before variables; word: where it is written.

    is_script: it stands inside the script of a shell, where nothing is changed.
    """

    text: str
    raw: str
    word: Optional[Word]
    is_script: bool = False

    def variable(self, value_of: str = "") -> str:
        """The variable that is all of the argument (behind `value_of`); empty for anything else."""
        rest = self.raw[len(value_of) :]
        if value_of and not self.is_script and not rest.startswith("${"):
            return ""  # systemd takes `--name=$NAME` as it stands
        found = _SHELL_VARIABLE.fullmatch(rest)
        return (found.group(1) or found.group(2)) if found else ""


@dataclass(frozen=True)
class Command:
    """A whole command. program: the path that is run; arguments: those behind its name."""

    program: str
    arguments: tuple[Argument, ...]


def command(words: Sequence[Word], env: Mapping[str, str], where: str) -> Command:
    """What ExecStart= runs. Raises Refused where that is not etcd itself, in words for a person.

    A shell that does nothing but run etcd (`/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd …"`,
    as in the unit of CentOS and OpenShift 3) is looked through.
    """
    if not words:
        raise Refused(f"{where}: ExecStart= is empty", "nothing says how etcd is started")
    first = words[0].text
    bare = first.lstrip(_PREFIXES)
    prefix = first[: len(first) - len(bare)]
    keeps_dollar = ":" in prefix
    program = posixpath.basename(bare)
    if any(word.text == ";" for word in words):
        raise _not_readable(where, "runs several commands")
    if "@" in prefix:  # the next word is only what the program is called
        words = [words[0], *words[2:]]
    if program in SHELLS:
        return _through_shell([w.text for w in words[1:]], env, where)
    if program != "etcd":
        raise _not_readable(where, f"runs {bare}, not etcd")
    found: list[Argument] = []
    for word in words[1:]:
        found += [Argument(word.text, word.text, word)] if keeps_dollar else _expanded(word, env)
    return Command(bare, tuple(found))


def _not_readable(where: str, seen: str) -> Refused:
    return Refused(
        f"{where}: ExecStart= {seen}",
        "what etcd itself will run with cannot be read from that, nor safely changed in it",
        "write ExecStart=/path/to/etcd with its flags (systemctl edit --full), or its settings "
        "into an EnvironmentFile=, then: fab survey",
    )


def _expanded(word: Word, env: Mapping[str, str]) -> list[Argument]:
    """The arguments of a word: `$NAME` alone gives as many as it has words, `${NAME}` one."""
    alone = _ALONE.fullmatch(word.text)
    if alone:
        value = env.get(alone.group(1), "")
        return [Argument(text, word.text, word) for text in value.split()]

    def value_of(match: re.Match[str]) -> str:
        inner = match.group(1)
        return "$" if inner == "$" else env.get(inner[1:-1], "")

    return [Argument(_BRACED.sub(value_of, word.text), word.text, word)]


def _through_shell(words: Sequence[str], env: Mapping[str, str], where: str) -> Command:
    """The one command of a shell's script. Raises Refused for a script that does anything else."""
    if len(words) != 2 or not re.fullmatch(r"-[eux]*c", words[0]):
        raise _not_readable(where, "starts a shell script")
    script = _split(_NPROC.sub("1", words[1].strip()))
    if script is None:
        raise _not_readable(where, "starts a shell script that does more than run etcd")
    while script and (_ASSIGNED.match(script[0]) or script[0] == "exec"):
        script = script[1:]
    if not script or posixpath.basename(script[0]) != "etcd":
        raise _not_readable(where, "starts a shell script, not etcd")
    arguments = tuple(Argument(_shell_value(raw, env), raw, None, True) for raw in script[1:])
    return Command(script[0], arguments)


def _shell_value(raw: str, env: Mapping[str, str]) -> str:
    return _SHELL_VARIABLE.sub(lambda m: env.get(m.group(1) or m.group(2), ""), raw)


def _split(script: str) -> Optional[list[str]]:
    """Words of a shell command without quotes; None where a shell would do more than split it."""
    found: list[str] = []
    current: Optional[str] = None
    quote = ""
    for here in script:
        if here == "\\":
            return None
        if quote:
            quote, current = ("", current) if here == quote else (quote, (current or "") + here)
            if quote == "'" and here == "$":
                return None
        elif here in "'\"":
            quote, current = here, current or ""
        elif here in " \t":
            if current is not None:
                found.append(current)
            current = None
        else:
            current = (current or "") + here
    if quote:
        return None
    found += [current] if current is not None else []
    plain = [_SHELL_VARIABLE.sub("", word) for word in found]
    return None if any(_UNSAFE.search(word) or "$" in word for word in plain) else found
