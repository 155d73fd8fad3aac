"""From flags to what etcd will run with: defaults, URLs, host paths, and what looks wrong."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Optional
from urllib.parse import urlsplit

from agent.model.facts import EtcdConfig, TlsFiles
from agent.survey.flags import CommandLine, is_boolean, is_true

_PEER = "http://localhost:2380"
_CLIENT = "http://localhost:2379"
_PLACEHOLDER = re.compile(r"\$\([A-Za-z_][\w.-]*\)|\$\{[^}]*\}|\$[A-Z_]{2,}|<no value>|__[A-Z_]+__")
_URL_FLAGS = (
    "listen-peer-urls", "listen-client-urls", "initial-advertise-peer-urls",
    "advertise-client-urls", "listen-metrics-urls",
)  # fmt: skip
_BOOLEAN_CHECKED = ("force-new-cluster", "client-cert-auth", "peer-client-cert-auth",
                    "strict-reconfig-check")  # fmt: skip


class Settings:
    """Flags of one etcd, where they come from, and the problems met while reading them.

    to_host gives (host's path, "") of an absolute path of etcd's, or ("", why there is none).
    """

    def __init__(
        self,
        definition: str,
        command_line: CommandLine,
        environment: dict[str, str],
        to_host: Callable[[str], tuple[str, str]],
        working_dir: str = "",
    ) -> None:
        self.definition, self.to_host = definition, to_host
        self.working_dir = working_dir
        self.problems: list[str] = []
        given = command_line.values()
        self.flags = {**environment, **given}
        self.from_env = frozenset(environment) - frozenset(given)
        if command_line.stray:
            self.note(f"etcd will not start: {command_line.stray!r} is not a valid flag")
        for name in command_line.repeated():
            self.note(f"--{name} is given more than once; the last one counts")

    def note(self, problem: str) -> None:
        """Add a problem, with the file it is in."""
        self.problems.append(f"{self.definition}: {problem}")

    def urls(self, flag: str, default: str) -> tuple[str, ...]:
        """A list of URLs as given, else etcd's default."""
        value = self.flags.get(flag, default)
        return tuple(url for url in (part.strip() for part in value.split(",")) if url)

    def host_path(self, flag: str) -> str:
        """The host's path of the file or directory that a flag names; empty where there is none."""
        value = self.flags.get(flag, "")
        return self.place(value, flag) if value else ""

    def place(self, path: str, what: str) -> str:
        """A container's path as the host's path, or empty with a problem noted."""
        if not posixpath.isabs(path):
            path = posixpath.join(self.working_dir or "/", path)
        found, why = self.to_host(posixpath.normpath(path))
        if why:
            self.note(f"--{what}: {why}")
        return found

    def tls(self, prefix: str) -> TlsFiles:
        """Certificate, key and CA of one side; `ca-file` is the name of etcd 2."""
        ca = f"{prefix}trusted-ca-file"
        return TlsFiles(
            self.host_path(f"{prefix}cert-file"),
            self.host_path(f"{prefix}key-file"),
            self.host_path(ca if ca in self.flags else f"{prefix}ca-file"),
        )


def settle(got: Settings, sha256: str, image: str = "") -> EtcdConfig:
    """What etcd will run with, defaults filled in (server/embed/config.go, NewConfig).

    sha256: of the definition's text. client_tls is left empty: it depends on what the host has.
    """
    flags = got.flags
    name = flags.get("name", "default")
    cluster = _initial_cluster(got)
    data_dir = _data_dir(got, name)
    _check(got, name, cluster)
    return EtcdConfig(
        definition=got.definition,
        sha256=sha256,
        name=name,
        data_dir=data_dir,
        image=image,
        wal_dir=got.host_path("wal-dir"),
        advertise_peer_urls=got.urls("initial-advertise-peer-urls", _PEER),
        listen_peer_urls=got.urls("listen-peer-urls", _PEER),
        advertise_client_urls=got.urls("advertise-client-urls", _CLIENT),
        listen_client_urls=got.urls("listen-client-urls", _CLIENT),
        initial_cluster=cluster,
        initial_cluster_state=flags.get("initial-cluster-state", "new"),
        initial_cluster_token=flags.get("initial-cluster-token", "etcd-cluster"),
        force_new_cluster=is_true(flags.get("force-new-cluster", "")),
        server_tls=got.tls(""),
        peer_tls=got.tls("peer-"),
        flags=flags,
        sources=dict.fromkeys(flags, got.definition),
        problems=tuple(got.problems),
    )


def _data_dir(got: Settings, name: str) -> str:
    """The host's data directory; empty, with a problem, where the manifest does not tell it."""
    if "config-file" in got.flags:
        got.note(
            f"etcd reads {got.flags['config-file']} and nothing else: every other flag and"
            " variable here is ignored (--config-file)"
        )
        return ""
    given = got.flags.get("data-dir", "")
    if not given:
        got.note(f"no --data-dir: etcd uses {name}.etcd in its working directory")
    return got.place(given or f"{name}.etcd", "data-dir")


def _initial_cluster(got: Settings) -> tuple[tuple[str, str], ...]:
    """Pairs of name and peer URL in the order given; a part without `=` is noted and left out."""
    pairs = []
    for part in got.urls("initial-cluster", ""):
        name, equals, url = part.partition("=")
        if not equals or not name or not url:
            got.note(f"--initial-cluster: {part!r} is not NAME=URL")
            continue
        pairs.append((name, url))
    return tuple(pairs)


def _check(got: Settings, name: str, cluster: tuple[tuple[str, str], ...]) -> None:
    _check_values(got)
    if cluster and name not in {known for known, _ in cluster}:
        got.note(f"--name={name} is not in --initial-cluster: an empty start would fail")
    state = got.flags.get("initial-cluster-state", "new")
    if state not in ("new", "existing"):
        got.note(f"--initial-cluster-state={state} is neither new nor existing")
    for flag in ("discovery", "discovery-srv", "discovery-endpoints"):
        if flag in got.flags:
            got.note(f"--{flag}: the members of an empty start come from a discovery service")
    if "force-new-cluster" in got.from_env and is_true(got.flags["force-new-cluster"]):
        got.note("ETCD_FORCE_NEW_CLUSTER is set in the environment, not as a flag")
    if "listen-client-urls" in got.flags and "advertise-client-urls" not in got.flags:
        got.note("--advertise-client-urls is missing: etcd will not start without it")


def _check_values(got: Settings) -> None:
    for flag, value in got.flags.items():
        found = _PLACEHOLDER.search(value)
        if found:
            got.note(f"--{flag}: {found.group(0)} was never replaced by a value")
        elif flag in _URL_FLAGS:
            for url in got.urls(flag, ""):
                problem = _url_problem(url)
                if problem:
                    got.note(f"--{flag}: {url} {problem}")
        elif flag in _BOOLEAN_CHECKED and not is_boolean(value):
            got.note(f"--{flag}={value} is neither true nor false: etcd will not start")


def _url_problem(url: str) -> Optional[str]:
    """What etcd's types.NewURLs (client/pkg/types/urls.go) refuses in a URL, or None."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme in ("unix", "unixs"):
        return None
    if parts.scheme not in ("http", "https"):
        return "must begin with http or https"
    if parts.path:
        return "must not contain a path"
    return None if host is not None and port is not None else "has no HOST:PORT"
