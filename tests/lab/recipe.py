"""What the base of every host consists of; a change here makes a new base."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from tests.lab import names
from tests.lab.etcd_versions import VERSIONS, GoSource
from tests.lab.names import MAX_HOSTS
from tests.lab.paths import CACHE_DIR, LAB_DIR

SUITE = "bookworm"
# The machine's own packages that the lab works with: program -> package.
MACHINE_PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
}
BASE_PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "iproute2",
    "procps",
    "containerd",
    "runc",
    "haproxy",
    "python3",
    "sudo",
    "e2fsprogs",
    "nftables",
    "attr",
    "strace",
    "openssl",
    "ca-certificates",
    "tar",
    "xz-utils",
]
ENABLED_UNITS = ("lab-prepare.service", "containerd.service", "ssh.service", "kubelet.service")
DISABLED_UNITS = [
    "getty@tty1.service",
    "console-getty.service",
    "haproxy.service",
    "e2scrub_reap.service",
    "systemd-pstore.service",
    "remote-fs.target",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-udevd.service",
    "systemd-network-generator.service",
    "systemd-update-utmp.service",
    "logrotate.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-logind.service",
]
LOGIN_USER = "core"
HOST_FILES = LAB_DIR / "hostfiles"
CRICTL_DIR = LAB_DIR / "crictl"
GO_FALLBACK_SUITE = "bookworm-backports"
GO_FALLBACK_PACKAGES = ("golang-1.23-go", "golang-1.23-src")


def digest(*parts: str | Path | Iterable[str]) -> str:
    """A short hash over words and over the files below directories."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(p for p in part.rglob("*") if p.is_file()):
                state.update(f"{file.relative_to(part)}:{file.stat().st_mode}\0".encode())
                state.update(file.read_bytes())
        else:
            state.update(repr(part if isinstance(part, str) else list(part)).encode() + b"\0")
    return state.hexdigest()[:12]


def base_dir() -> Path:
    """The cache directory of the root file system under every host."""
    build = (LAB_DIR / "build.py").read_text()
    key = digest(SUITE, BASE_PACKAGES, ENABLED_UNITS, DISABLED_UNITS, HOST_FILES, CRICTL_DIR, build)
    return CACHE_DIR / f"base-{key}"


def bare_base_dir() -> Path:
    """The same without crictl, for machines where none can be built."""
    return base_dir().with_name(f"{base_dir().name}-bare")


def debootstrap_dir() -> Path:
    """The untouched result of debootstrap, from which bases are made."""
    return CACHE_DIR / f"debootstrap-{digest(SUITE, BASE_PACKAGES)}"


def crictl_build_dir() -> Path:
    """The cache directory of the built crictl; one that never is, where Go is not to be had."""
    without_go = "-none" if os.environ.get("ETCD_RESCUE_LAB_WITHOUT_GO") else ""
    return CACHE_DIR / f"crictl-{digest(CRICTL_DIR)}{without_go}"


def etcd_dir(name: str) -> Path:
    """The cache directory of one etcd version: binaries, and a containerd store with its image."""
    sources = [(LAB_DIR / file).read_text() for file in ("etcd_build.py", "images.py")]
    source = VERSIONS[name].source
    modules = [LAB_DIR / source.directory] if isinstance(source, GoSource) else []
    key = digest(repr(VERSIONS[name]), sources, debootstrap_dir().name, *modules)
    return CACHE_DIR / f"etcd-{name}-{key}"


def keys_dir() -> Path:
    """The cache directory of ready-made RSA keys."""
    return CACHE_DIR / "keys-1"


def age_dir() -> Path:
    """The cache directory of `age` and `age-keygen`, which the operator encrypts backups with."""
    return CACHE_DIR / "age-1"


def golden_dir(name: str, hosts: int, family: int = 0) -> Path:
    """The cache directory of the data directories of a fresh cluster, by default of this family."""
    bootstrap = (LAB_DIR / "bootstrap.py").read_text()
    addresses = ["over IPv6"] if (family or names.family()) == 6 else []
    key = digest(repr(VERSIONS[name]), str(hosts), bootstrap, *addresses)
    return CACHE_DIR / f"golden-{name}-{hosts}-{key}"


def is_current(directory: Path) -> bool:
    """Whether a cached directory is of the recipe as it is now."""
    now = {base_dir(), bare_base_dir(), debootstrap_dir(), crictl_build_dir(), keys_dir()}
    now |= {age_dir()}
    now |= {etcd_dir(name) for name in VERSIONS}
    sizes = range(1, MAX_HOSTS + 1)
    now |= {golden_dir(name, n, family) for name in VERSIONS for n in sizes for family in (4, 6)}
    return directory in now
