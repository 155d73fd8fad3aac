"""etcd's command line and environment, read as etcd reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from agent.survey.redact import shown_flag, shown_variable

BOOLEANS = frozenset({
    "auto-tls", "client-cert-auth", "debug", "disable-log-sampling", "enable-distributed-tracing",
    "enable-grpc-gateway", "enable-log-rotation", "enable-pprof", "enable-v2",
    "experimental-compact-hash-check-enabled", "experimental-enable-distributed-tracing",
    "experimental-enable-lease-checkpoint", "experimental-enable-lease-checkpoint-persist",
    "experimental-initial-corrupt-check", "experimental-memory-mlock",
    "experimental-stop-grpc-service-on-defrag", "experimental-txn-mode-write-with-shared-buffer",
    "force-new-cluster", "initial-election-tick-advance", "memory-mlock", "peer-auto-tls",
    "peer-client-cert-auth", "peer-skip-client-san-verification", "pre-vote",
    "socket-reuse-address", "socket-reuse-port", "strict-reconfig-check", "unsafe-no-fsync",
    "version",
})  # fmt: skip
"""Flags that take no second argument (etcdmain/config.go and embed/config.go, 3.3 to 3.6)."""

_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False", ""})
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_NOT_FLAGS = frozenset({"unsupported-arch", "version", "config-dir"})


@dataclass(frozen=True)
class Given:
    """A flag on a command line. index: its argument; value_index: the next one, if it is used."""

    name: str
    value: str
    index: int
    value_index: Optional[int] = None
    is_bare: bool = False


@dataclass(frozen=True)
class CommandLine:
    """All flags in order, and the first argument that is none: etcd stops there with an error."""

    given: tuple[Given, ...]
    stray: str = ""

    def all(self, name: str) -> tuple[Given, ...]:
        """Every place where the flag is given."""
        return tuple(flag for flag in self.given if flag.name == name)

    def repeated(self) -> tuple[str, ...]:
        """Names of flags that are given more than once."""
        names = [flag.name for flag in self.given]
        return tuple(sorted({name for name in names if names.count(name) > 1}))

    def values(self) -> dict[str, str]:
        """Flag name to value; the last one counts, as in Go's flag package. No secrets."""
        return {flag.name: shown_flag(flag.name, flag.value) for flag in self.given}


def parse_argv(argv: Sequence[str]) -> CommandLine:
    """Read arguments (without argv[0]) as Go's flag package does: -f and --f, =, next, bare.

    Which flags take no value is known by name; one that is not known takes the next argument
    unless that begins with a dash.
    """
    given: list[Given] = []
    index = 0
    while index < len(argv):
        text = argv[index]
        name, equals, value = text.lstrip("-").partition("=")
        if not text.startswith("-") or not name or text.startswith("---"):
            return CommandLine(tuple(given), text)
        if equals:
            given.append(Given(name, value, index))
        elif name not in BOOLEANS and index + 1 < len(argv) and not argv[index + 1].startswith("-"):
            given.append(Given(name, argv[index + 1], index, index + 1))
            index += 1
        else:
            given.append(Given(name, "true", index, is_bare=True))
        index += 1
    return CommandLine(tuple(given))


def from_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Flags given as ETCD_* variables (pkg/flags/flag.go): an empty one counts as not given.

    The value of one that is no flag of etcd's, or a secret, is not shown.
    """
    found = {}
    for key, value in env.items():
        name = key[len("ETCD_") :].lower().replace("_", "-")
        if key.startswith("ETCD_") and value and name not in _NOT_FLAGS:
            found[name] = shown_variable(name, value)
    return found


def is_true(value: str) -> bool:
    """Whether a boolean flag's value could be taken as true: anything not clearly false is."""
    return value not in _FALSE


def is_boolean(value: str) -> bool:
    """Whether Go's strconv.ParseBool accepts the value."""
    return value in _TRUE or (value in _FALSE and value != "")
