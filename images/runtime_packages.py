"""The distribution packages that the runtime is made of: which, exactly which, and how got."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.errors import CommandFailed, Refused, UsageError

SUITE = "bookworm"
PACKAGES = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
    "libc6", "libgcc-s1", "libexpat1", "zlib1g", "libssl3", "libffi8", "libbz2-1.0", "liblzma5",
    "libuuid1", "busybox-static",
)  # fmt: skip
"""libgcc-s1: glibc loads it when a thread ends early (pthread_exit), and aborts without it."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""A machine as `uname -m` says it → Debian's word for it."""

MIRROR = "http://deb.debian.org"
SNAPSHOT = "http://snapshot.debian.org/archive"
LOCK_FILE = Path(__file__).parent / "runtime.lock"

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, order=True)
class Package:
    """One package, exactly. architecture: Debian's. sha256: hex, of the .deb file."""

    architecture: str
    name: str
    version: str
    sha256: str


class Superseded(Refused):
    """The mirror has newer packages than the locked ones, and no longer these."""

    def __init__(self, said: str) -> None:
        super().__init__(
            f"the mirror no longer has the packages that {LOCK_FILE.name} names",
            said,
            "make runtime-lock takes the mirror's and says which; or get the old ones: "
            "python -m images.runtime --snapshot 20261121T000000Z",
        )


def read_lock(path: Path = LOCK_FILE) -> list[Package]:
    """The packages of every architecture. Raises UsageError for a line of another form."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if words and (len(words) != 4 or len(words[3]) != 64):
            raise UsageError(f"{path}:{number}: not `architecture package version sha256`")
        if words:
            found.append(Package(*words))
    return found


def write_lock(packages: Sequence[Package], path: Path = LOCK_FILE) -> None:
    """Write the packages down, in one order."""
    head = (
        f"# The packages of Debian {SUITE} that the runtime is made of, per architecture.\n"
        "# Made anew by: make runtime-lock\n"
    )
    rows = [f"{p.architecture} {p.name} {p.version} {p.sha256}\n" for p in sorted(packages)]
    path.write_text(head + "".join(rows))


def fetch(machine: str, into: Path, lock: Sequence[Package] | None, snapshot: str = "") -> None:
    """Download the packages for a machine into a directory; apt checks Debian's signatures.

    lock: what each must be, to the bit; None for the mirror's newest. snapshot: a time like
    20261121T000000Z, to take them from snapshot.debian.org as they were then. Raises UsageError for
    a machine that is none of ARCHITECTURES, CommandFailed where apt fails, Refused where a package
    is another than the locked one.
    """
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        raise UsageError(f"no runtime for {machine}", f"there are: {', '.join(ARCHITECTURES)}")
    pins = {p.name: p for p in lock or () if p.architecture == architecture}
    if lock is not None and set(pins) != set(PACKAGES):
        raise UsageError(f"{LOCK_FILE.name} does not name the packages for {machine}")
    wanted = [f"{name}={pins[name].version}" if pins else name for name in PACKAGES]
    with _private_apt(architecture, snapshot) as apt:
        _run([*apt, "update", "-qq"], into)
        try:
            _run([*apt, "download", "-qq", *wanted], into)
        except CommandFailed as error:
            if pins and "was not found" in error.why:
                raise Superseded(error.why) from None
            raise
    for package in described(into):
        pin = pins.get(package.name)
        if pin and pin != package:
            raise Refused(
                f"{package.name} {package.version} ({architecture}) has sha256 {package.sha256}",
                f"the lock file says {pin.version} with sha256 {pin.sha256}",
                "make runtime-lock, and look at what it changes",
            )


def described(directory: Path) -> list[Package]:
    """The packages that lie in a directory, in one order."""
    found = []
    for path in directory.glob("*.deb"):
        fields = _run(["dpkg-deb", "--field", str(path), "Architecture", "Package", "Version"])
        told = dict(line.split(": ", 1) for line in fields.splitlines())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(Package(told["Architecture"], told["Package"], told["Version"], digest))
    return sorted(found)


def unpack(directory: Path, into: Path) -> None:
    """Unpack every package of a directory into one tree; nothing of them is run."""
    for path in sorted(directory.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(path), str(into)])


@contextmanager
def _private_apt(architecture: str, snapshot: str) -> Iterator[list[str]]:
    """apt-get with lists, cache and sources of its own: the machine's stay as they are."""
    root = f"{SNAPSHOT}/{{}}/{snapshot}" if snapshot else f"{MIRROR}/{{}}"
    option = f"[signed-by={_KEYRING}{' check-valid-until=no' if snapshot else ''}]"
    with tempfile.TemporaryDirectory(prefix="etcd-rescue-apt.") as name:
        work = Path(name)
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        (work / "status").touch()
        (work / "sources.list").write_text(
            f"deb {option} {root.format('debian')} {SUITE} main\n"
            f"deb {option} {root.format('debian-security')} {SUITE}-security main\n"
        )
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "Dir::State": work / "state",
            "Dir::State::status": work / "status",
            "Dir::Cache": work / "cache",
            "Dir::Etc::sourcelist": work / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "APT::Sandbox::User": "root",
        }
        yield ["apt-get", *(w for key, value in settings.items() for w in ("-o", f"{key}={value}"))]


def _run(argv: Sequence[str], directory: Path | None = None) -> str:
    env = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            list(argv), cwd=directory, env=env, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise CommandFailed(
            f"{argv[0]}: no such command here", "the runtime is built on Debian or a relative of it"
        ) from None
    if done.returncode != 0:
        shown = " ".join(w for w in argv if "=" not in w and w != "-o")
        raise CommandFailed(f"`{shown}` failed", (done.stderr or done.stdout).strip()[-1000:])
    return done.stdout
