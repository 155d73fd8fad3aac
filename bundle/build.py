"""Makes the bundle: gathers what is carried, sums it up, has it signed, packs it.

The same commit gives the same bytes: names are sorted, every time is SOURCE_DATE_EPOCH (else the
commit's own), owners and modes are fixed, and nothing is compressed here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent import __version__
from agent.errors import CommandFailed, UsageError
from bundle.wheels import CACHE, Target, fetch_wheels, own_wheel, this_target
from coordinator.agent_file import PROJECT, build_agent

SUMS, SIGNATURE, MANIFEST = "SHA256SUMS", "SHA256SUMS.sig", "BUNDLE.json"
NAMESPACE = "etcd-rescue@bundle"
_CARRY = Path(__file__).parent / "carry"
_PAPERS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE")
_SOURCES = ("agent", "coordinator", "bundle", "docs", "fabfile.py", *_PAPERS)
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-/")
_RUNNABLE = (".sh", "fab", "install")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What is to be in it. pythons: "3.12", …, besides the one that runs us.

    machines: of the hosts, as `uname -m` says it; none: like this one. key: what signs it, a
    private key's file, or a public one whose private half an agent holds; none: unsigned. bare:
    without the runtime and the image, where these are there.
    """

    pythons: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    key: Path | None = None
    bare: bool = False


@dataclass(frozen=True)
class Made:
    """The archive that was made. missing: what could not be carried, in words."""

    path: str
    sha256: str
    size: int
    signed: bool
    files: int
    pythons: tuple[str, ...]
    machines: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass
class _Work:
    """The tree as it grows."""

    top: Path
    say: Say
    missing: list[str] = field(default_factory=list)

    def put(self, source: Path, name: str) -> None:
        """Carry one file under this name."""
        target = self.top / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def write(self, name: str, text: str) -> None:
        """Carry a text under this name."""
        (self.top / name).write_text(text)


def make_bundle(output: Path, wish: Wish, say: Say = lambda _: None) -> Made:
    """The archive etcd-rescue-VERSION-COMMIT.tar in the directory `output`.

    Raises UsageError for a key that is not there, CommandFailed where wheels cannot be had or
    ssh-keygen does not sign.
    """
    commit, epoch = _commit(), _epoch()
    if wish.key is not None and not wish.key.is_file():
        raise UsageError(f"{wish.key}: no such key", next="ssh-keygen -t ed25519 -f KEY")
    name = f"etcd-rescue-{__version__}-{commit[:16]}"
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".bundle-") as folder:
        work = _Work(Path(folder) / name, say)
        work.top.mkdir()
        machines = wish.machines or (platform.machine(),)
        pythons = _wheels(work, wish)
        _agents(work, machines)
        if not wish.bare:
            _runtimes(work, machines)
            _images(work, machines)
        _papers(work, commit, pythons, machines)
        count = _sum_up(work.top)
        if wish.key is not None:
            _sign(work.top / SUMS, wish.key)
        archive = Path(folder) / f"{name}.tar"
        _pack(work.top, archive, epoch)
        final = output / archive.name
        archive.replace(final)
    data = final.read_bytes()
    return Made(
        str(final), hashlib.sha256(data).hexdigest(), len(data), wish.key is not None, count,
        tuple(sorted(pythons)), machines, tuple(work.missing),
    )  # fmt: skip


# ---- what is carried -----------------------------------------------------------------------------


def _wheels(work: _Work, wish: Wish) -> dict[str, list[str]]:
    """Python → names of its wheels, ours the last."""
    here = this_target()
    found: dict[str, list[str]] = {}
    (work.top / "wheels").mkdir()
    own = own_wheel(work.top / "wheels")
    for python in sorted({here.python, *wish.pythons}):
        target = Target(python, here.machine)
        wheels = fetch_wheels(target, CACHE)
        for path in wheels:
            work.put(path, f"wheels/{path.name}")
        found[python] = [*(path.name for path in wheels), own.name]
        work.say(f"{len(wheels)} wheels for Python {python} on {here.machine}")
    told = " or ".join(sorted(found))
    work.write("wheels/PYTHONS", f"CPython {told} on {sys.platform} {here.machine}\n")
    return found


def _agents(work: _Work, machines: Sequence[str]) -> None:
    for machine in machines:
        made = build_agent(machine=machine)
        work.put(made.path, f"agent/rescue-agent-{machine}.pyz")
        work.say(f"the agent for {machine}")


def _runtimes(work: _Work, machines: Sequence[str]) -> None:
    """The interpreter for hosts that have none, as it was built last."""
    from coordinator.runtime_file import find_runtime, stem

    for machine in machines:
        found = find_runtime(machine)
        if found is None:
            work.missing.append(
                f"the interpreter for {machine} hosts without Python: make runtime, then again"
            )
            continue
        for path in (found.path, found.busybox, found.path.with_name(f"{stem(machine)}.json")):
            work.put(path, f"runtime/{path.name}")
        work.say(f"the interpreter for {machine} hosts that have none")


def _images(work: _Work, machines: Sequence[str]) -> None:
    """The debug pod's images, as they were built last (images/oci_image.py)."""
    for machine in machines:
        path = PROJECT / f"dist/etcd-rescue-image-{machine}.tar"
        if path.is_file():
            work.put(path, f"image/{path.name}")
            work.say(f"the debug pod's image for {machine}")
        else:
            work.missing.append(f"the debug pod's image for {machine}: make image, then again")


def _papers(
    work: _Work, commit: str, pythons: dict[str, list[str]], machines: Sequence[str]
) -> None:
    for path in sorted(_CARRY.iterdir()):
        if path.is_file():
            work.put(path, path.name)
    for name in _PAPERS:
        work.put(PROJECT / name, f"docs/project/{name}")
    for path in sorted((PROJECT / "docs").glob("*.md")):
        work.put(path, f"docs/{path.name}")
    manifest = {
        "name": "etcd-rescue", "version": __version__, "commit": commit, "system": sys.platform,
        "machine": platform.machine(), "pythons": pythons, "hosts": sorted(machines),
        "missing": work.missing,
    }  # fmt: skip
    work.write(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")


# ---- of one commit -------------------------------------------------------------------------------


def _git(*words: str) -> str:
    """What git says; empty where there is no git, or this is no checkout."""
    argv = ["git", "-C", str(PROJECT), *words]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _commit() -> str:
    """The commit; where files differ from it, or there is none, their hash."""
    commit = _git("rev-parse", "HEAD").strip()
    if commit and not _git("status", "--porcelain", "--", *_SOURCES):
        return commit
    state = hashlib.sha256(commit.encode())
    for name in _SOURCES:
        top = PROJECT / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                state.update(f"{path.relative_to(PROJECT)}\n".encode() + path.read_bytes())
    return f"changed-{state.hexdigest()}"


def _epoch() -> int:
    """SOURCE_DATE_EPOCH (reproducible-builds.org), else the time of the commit, else tar's 1980."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not (given.isdecimal() and len(given) < 12):
        raise UsageError(f"SOURCE_DATE_EPOCH {given!r} is not a number of seconds")
    return int(given or _git("log", "-1", "--format=%ct").strip() or 315532800)


# ---- sums, signature, archive --------------------------------------------------------------------


def _files(top: Path) -> list[str]:
    names = sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file())
    strange = [name for name in names if not set(name) <= _PLAIN]
    if strange:
        raise UsageError(f"{strange[0]!r} has a name that verify.sh would refuse")
    return names


def _sum_up(top: Path) -> int:
    """Write SHA256SUMS of every file; how many they are."""
    rows = [
        f"{hashlib.sha256((top / name).read_bytes()).hexdigest()}  {name}\n" for name in _files(top)
    ]
    (top / SUMS).write_text("".join(rows))
    return len(rows)


def _sign(sums: Path, key: Path) -> None:
    """SHA256SUMS.sig, by ssh-keygen: it may ask for a passphrase, or an agent or a token."""
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(sums)]
    try:
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    except FileNotFoundError:
        raise CommandFailed("no ssh-keygen here", next="install OpenSSH") from None
    if done.returncode or not sums.with_name(SIGNATURE).is_file():
        said = done.stderr.decode(errors="replace").strip()
        raise CommandFailed(f"ssh-keygen did not sign with {key}", said[-500:])


def _pack(top: Path, archive: Path, epoch: int) -> None:
    """A plain tar (ustar), the same bytes for the same files."""
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in _files(top):
            data = (top / name).read_bytes()
            entry = tarfile.TarInfo(f"{top.name}/{name}")
            entry.size, entry.mtime = len(data), epoch
            entry.mode = 0o755 if name.endswith(_RUNNABLE) and "/" not in name else 0o644
            tar.addfile(entry, io.BytesIO(data))
