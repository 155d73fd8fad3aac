"""A container's shell script: the one etcd that it starts, with its arguments and environment.

OpenShift's etcd pod is `/bin/sh -c SCRIPT`: variables exported, ports waited for, then etcd behind
`exec nice … ionice …` with its flags on continued lines. What a shell would only know by running
the script (command substitutions, branches) stays as it is written, and is never guessed.

Source: cluster-etcd-operator bindata/etcd/pod.gotpl.yaml; the shell's grammar as in POSIX 2.3, 2.6.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.errors import Refused

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_VARIABLE = re.compile(rf"\$(?:({_NAME})|\{{({_NAME})\}})")
_ASSIGNED = re.compile(rf"({_NAME})=(.*)", re.DOTALL)
_OPENERS = frozenset({"if", "while", "until", "for", "case", "{"})
_CLOSERS = frozenset({"fi", "done", "esac", "}"})
_MIDDLE = frozenset({"then", "else", "elif", "do", "time", "!"})
_WRAPPERS = {"exec": frozenset({"-a"}), "nice": frozenset({"-n"}),
             "ionice": frozenset({"-c", "-n"}), "env": frozenset({"-u"}),
             "chrt": frozenset(), "nohup": frozenset()}  # fmt: skip
"""Commands that run the rest of their line, and those of their options that take a value."""

_ENDS = frozenset("\n;&|()")
_OPAQUE = "\ud800"
"""Stands in a word for a command substitution: nothing says its value. No text has it."""
_DOLLAR = "\ud801"
"""Stands in a word for a dollar sign that is no variable's: it was quoted. No text has it."""


@dataclass(frozen=True)
class ScriptedEtcd:
    """The etcd of a script. arguments: behind its name. environment: what it starts with.

    unresolved: variables whose value only running the script would tell.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str]
    unresolved: tuple[str, ...]


@dataclass
class _Shell:
    """What is known while the script is read from the top."""

    values: dict[str, str]
    exported: set[str]
    unresolved: set[str] = field(default_factory=set)

    def value_of(self, word: str) -> str:
        """The word with known variables replaced; unknown ones stay as they are written.

        Quoted dollar signs stay marked, so that a value is never expanded twice.
        """

        def value(match: re.Match[str]) -> str:
            return self.values.get(match.group(1) or match.group(2), match.group(0))

        return _VARIABLE.sub(value, word)

    def assign(self, name: str, value: str, sure: bool) -> None:
        """Take an assignment in; one that may not happen, or has no known value, unknows it."""
        if sure and _OPAQUE not in value and not _VARIABLE.search(value):
            self.values[name] = value.replace(_DOLLAR, "$")
            self.unresolved.discard(name)
        else:
            self.values.pop(name, None)
            self.unresolved.add(name)


def scripted_etcd(script: str, env: Mapping[str, str], where: str) -> ScriptedEtcd:
    """The one etcd that a script starts. where: names the script in errors.

    Raises Refused where the script starts none, several, or one that depends on a condition; and
    where it cannot be taken apart.
    """
    shell = _Shell(dict(env), set(env))
    found: list[ScriptedEtcd] = []
    depth = 0
    for words in _commands(script, where):
        while words and words[0] in _OPENERS | _CLOSERS | _MIDDLE:
            depth += (words[0] in _OPENERS) - (words[0] in _CLOSERS)
            words = words[1:]
        words, own = _assignments(shell, words, depth == 0)
        words = _behind_wrappers(words)
        if not words or posixpath.basename(words[0]) != "etcd":
            continue
        arguments = tuple(shell.value_of(word).replace(_DOLLAR, "$") for word in words[1:])
        if arguments[:1] in (("grpc-proxy",), ("gateway",)):
            continue
        if depth:
            raise _refused(where, "starts etcd under a condition")
        environment = {n: shell.values[n] for n in shell.exported if n in shell.values} | own
        shown = tuple(a.replace(_OPAQUE, "${a command}") for a in arguments)
        found.append(ScriptedEtcd(shown, environment, tuple(sorted(shell.unresolved))))
    if len(found) != 1:
        raise _refused(where, f"starts etcd in {len(found)} places" if found else "starts no etcd")
    return found[0]


def _refused(where: str, seen: str) -> Refused:
    return Refused(
        f"{where} {seen}",
        "what etcd will run with cannot be read from that",
        "fab survey shows the definition; the member's own API still tells what runs",
    )


def _assignments(shell: _Shell, words: list[str], sure: bool) -> tuple[list[str], dict[str, str]]:
    """(the command that is left, variables for it alone) of `NAME=value … COMMAND`.

    Without a command, and behind `export`, they are the shell's.
    """
    if words and words[0] == "export":
        for word in words[1:]:
            name = word.partition("=")[0]
            if _ASSIGNED.fullmatch(word):
                shell.assign(name, shell.value_of(word.partition("=")[2]), sure)
            shell.exported.add(name)
        return [], {}
    count = next((i for i, word in enumerate(words) if not _ASSIGNED.fullmatch(word)), len(words))
    given = [(word.partition("=")[0], word.partition("=")[2]) for word in words[:count]]
    if count < len(words):
        known = {name: shell.value_of(value) for name, value in given}
        return words[count:], {n: v.replace(_DOLLAR, "$") for n, v in known.items()}
    for name, value in given:
        shell.assign(name, shell.value_of(value), sure)
    return [], {}


def _behind_wrappers(words: list[str]) -> list[str]:
    """The command that `exec`, `nice`, `ionice` and their like run."""
    while words and posixpath.basename(words[0]) in _WRAPPERS:
        takes = _WRAPPERS[posixpath.basename(words[0])]
        words = words[1:]
        while words and (words[0].startswith("-") or _ASSIGNED.fullmatch(words[0])):
            words = words[2:] if words[0] in takes else words[1:]
    return words


# ---- words ---------------------------------------------------------------------------------------


def _commands(script: str, where: str) -> Iterator[list[str]]:
    """The simple commands of a script, each as its words, quotes taken off.

    Raises Refused at a quote or a parenthesis without its end, and at a here-document.
    """
    words: list[str] = []
    at, end = 0, len(script)
    while at < end:
        here = script[at]
        if here in " \t\r":
            at += 1
        elif script.startswith("\\\n", at):
            at += 2
        elif here == "#":
            at = _line_end(script, at)
        elif here in _ENDS:
            yield words
            words = []
            at += 1
        elif script.startswith("<<", at):
            raise _refused(where, "holds a here-document")
        elif here in "<>":
            at += 1  # the file's name is taken for a word, which matters to no etcd
        else:
            word, at = _word(script, at, where)
            words.append(word)
    yield words


def _line_end(script: str, at: int) -> int:
    found = script.find("\n", at)
    return len(script) if found < 0 else found


def _word(script: str, at: int, where: str) -> tuple[str, int]:
    """(the word that begins at `at`, where it ends)."""
    parts: list[str] = []
    while at < len(script):
        here = script[at]
        if here in " \t\r" or here in _ENDS or here in "<>":
            break
        if here == "\\":
            parts.append(_literal(script[at + 1 : at + 2]))
            at += 2
        elif here == "'":
            end = _find(script, "'", at + 1, where)
            parts.append(script[at + 1 : end].replace("$", _DOLLAR))
            at = end + 1
        elif here == '"':
            text, at = _quoted(script, at + 1, where)
            parts.append(text)
        elif script.startswith("$(", at) or here == "`":
            parts.append(_OPAQUE)
            at = _substitution_end(script, at, where)
        else:
            parts.append(here)
            at += 1
    return "".join(parts), at


def _literal(char: str) -> str:
    """What a backslash and this character stand for."""
    return {"\n": "", "$": _DOLLAR}.get(char, char)


def _quoted(script: str, at: int, where: str) -> tuple[str, int]:
    """(what stands in double quotes from `at`, where it goes on behind them)."""
    parts: list[str] = []
    while at < len(script):
        here = script[at]
        if here == '"':
            return "".join(parts), at + 1
        if here == "\\" and script[at + 1 : at + 2] in ('"', "\\", "$", "`", "\n"):
            parts.append(_literal(script[at + 1]))
            at += 2
        elif script.startswith("$(", at) or here == "`":
            parts.append(_OPAQUE)
            at = _substitution_end(script, at, where)
        else:
            parts.append(here)
            at += 1
    raise _refused(where, "holds a quote without its end")


def _substitution_end(script: str, at: int, where: str) -> int:
    """Where it goes on behind the command substitution that begins at `at`."""
    if script[at] == "`":
        return _find(script, "`", at + 1, where) + 1
    depth, at = 1, at + 2
    while at < len(script):
        here = script[at]
        if here == "\\":
            at += 1
        elif here == "'":
            at = _find(script, "'", at + 1, where)
        elif here == '"':
            _text, behind = _quoted(script, at + 1, where)
            at = behind - 1
        elif here in "()":
            depth += 1 if here == "(" else -1
            if not depth:
                return at + 1
        at += 1
    raise _refused(where, "holds a command substitution without its end")


def _find(script: str, what: str, at: int, where: str) -> int:
    found = script.find(what, at)
    if found < 0:
        raise _refused(where, "holds a quote without its end")
    return found
