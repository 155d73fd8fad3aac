"""Builds rescue-agent.pyz: the agent and what it needs in one file, for Python 3.9 and newer."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from agent.errors import CommandFailed, Refused, UsageError
from agent.host import STATE_DIR

PROJECT = Path(__file__).resolve().parent.parent
UNPACK_ROOT = f"{STATE_DIR}/agent/unpacked"
"""Where the file unpacks itself when it is started by hand; only root can look inside."""

OLDEST_PYTHON = "3.9"
RECIPE = 1
"""Grows when this module makes another file out of the same content."""

CARRIED = "ETCD_RESCUE_AGENT_DIR"
"""The variable that names a directory of agents made beforehand: then none is built."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_NOT_NEEDED_DIRS = {"tests", "__pycache__", "_yaml"}
_NOT_NEEDED_FILES = {
    "_psaix.py", "_psbsd.py", "_psosx.py", "_pssunos.py", "_pswindows.py", "py.typed",
}  # fmt: skip


@dataclass(frozen=True)
class AgentFile:
    """The built agent. sha256: hex, of the file. size: bytes. machine: as `uname -m` says it."""

    path: Path
    sha256: str
    size: int
    machine: str


def build_agent(
    force: bool = False,
    machine: str = "",
    sources: Path = PROJECT / "agent",
    constraints: Path = PROJECT / "agent-constraints.txt",
    output_dir: Path = PROJECT / "dist",
) -> AgentFile:
    """The agent file for hosts of `machine` (default: like this one), built where it is stale.

    The same sources and constraints give the same bytes. Costs milliseconds while nothing changed:
    a `.json` beside the file remembers what it was made of. Raises UsageError for constraints that
    are not exact pins, CommandFailed where a package is neither installed here nor to be had.
    """
    machine = machine or platform.machine()
    if CARRIED in os.environ:
        return _carried(Path(os.environ[CARRIED]), machine)
    content = _content_hash(sources, constraints, machine)
    name = "rescue-agent" if machine == platform.machine() else f"rescue-agent-{machine}"
    path = output_dir / f"{name}.pyz"
    known = None if force else _known(path, content, machine)
    if known:
        return known
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".build-") as work:
        made = _build(Path(work), sources, read_pins(constraints), machine)
        made.replace(path)
    return _remember(path, content, machine)


def _carried(folder: Path, machine: str) -> AgentFile:
    """The agent that a bundle brought. Raises UsageError where it has none for this machine."""
    path = folder / f"rescue-agent-{machine}.pyz"
    try:
        return _describe(path, machine)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}: this bundle has no agent for {machine}",
            "an agent is made in a checkout, and carried from there",
            f"fab bundle --machine {machine}   (in a checkout)",
        ) from None


def read_pins(constraints: Path) -> dict[str, str]:
    """Package name → version. Raises UsageError for any line that is not `name==version`."""
    pins: dict[str, str] = {}
    for number, line in enumerate(constraints.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, equals, version = line.partition("==")
        if not equals or not name.strip() or not version.strip():
            raise UsageError(f"{constraints}:{number}: {line!r} is not name==version")
        pins[name.strip()] = version.strip()
    return pins


# ---- the memory of the last build ------------------------------------------------------------


def _content_hash(sources: Path, constraints: Path, machine: str) -> str:
    hasher = hashlib.sha256(f"{RECIPE} {machine} {UNPACK_ROOT}\n".encode())
    hasher.update(constraints.read_bytes())
    for path in _python_files(sources):
        data = path.read_bytes()
        hasher.update(f"\n{path.relative_to(sources)} {len(data)}\n".encode())
        hasher.update(data)
    return hasher.hexdigest()


def _known(path: Path, content: str, machine: str) -> AgentFile | None:
    try:
        memory = json.loads(path.with_suffix(".json").read_text())
        made = _describe(path, machine)
        return made if memory == {"content": content, "sha256": made.sha256} else None
    except (OSError, ValueError):
        return None


def _remember(path: Path, content: str, machine: str) -> AgentFile:
    made = _describe(path, machine)
    memory = {"content": content, "sha256": made.sha256}
    path.with_suffix(".json").write_text(json.dumps(memory) + "\n")
    return made


def _describe(path: Path, machine: str) -> AgentFile:
    data = path.read_bytes()
    return AgentFile(path, hashlib.sha256(data).hexdigest(), len(data), machine)


# ---- building ----------------------------------------------------------------------------------


def _build(work: Path, sources: Path, pins: dict[str, str], machine: str) -> Path:
    site = work / "site"
    for path in _python_files(sources):
        _copy(path, site / "agent" / path.relative_to(sources))
    missing = {}
    for name, version in pins.items():
        if not _copy_installed(name, version, site, machine):
            missing[name] = version
    if missing:
        _fetch(missing, work / "fetched", machine)
        for name in missing:
            distribution = _distribution_in(work / "fetched", name)
            _copy_distribution(distribution, name, site)
    raw = work / "raw.pyz"
    _run_shiv(site, raw)
    return _normalised(raw, work / "agent.pyz")


def _python_files(sources: Path) -> list[Path]:
    return sorted(
        path
        for path in sources.rglob("*")
        if path.is_file() and not _is_bloat(path.relative_to(sources)) and path.suffix != ".pyz"
    )


def _is_bloat(path: Path) -> bool:
    """Not used at run time, or fit for one Python only (yaml's C loader)."""
    return (
        path.suffix in (".pyc", ".pyi", ".c", ".h")
        or path.name in _NOT_NEEDED_FILES
        or bool(_NOT_NEEDED_DIRS & set(path.parts))
        or (path.suffix == ".so" and ".abi3." not in path.name)
    )


def _copy_installed(name: str, version: str, site: Path, machine: str) -> bool:
    """Copy a package out of the running environment; False where it is not there, or another."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    if distribution.version != version or distribution.files is None:
        return False
    has_library = any(path.suffix == ".so" for path in _needed_files(distribution))
    if has_library and (sys.platform != "linux" or machine != platform.machine()):
        return False
    _copy_distribution(distribution, name, site)
    return True


def _needed_files(distribution: metadata.Distribution) -> Iterator[Path]:
    for file in distribution.files or []:
        path = Path(str(file))
        inside = not path.is_absolute() and ".." not in path.parts
        if inside and not path.parts[0].endswith(".dist-info") and not _is_bloat(path):
            yield path


def _copy_distribution(distribution: metadata.Distribution, name: str, site: Path) -> None:
    for path in _needed_files(distribution):
        _copy(Path(str(distribution.locate_file(str(path)))), site / path)
    for file in distribution.files or []:
        path = Path(str(file))
        if path.parts[0].endswith(".dist-info") and path.name.startswith(("LICENSE", "NOTICE")):
            source = Path(str(distribution.locate_file(str(path))))
            _copy(source, site / "licenses" / f"{name}-{path.name}")


def _distribution_in(directory: Path, name: str) -> metadata.Distribution:
    found = list(metadata.distributions(name=name, path=[str(directory)]))
    if not found:
        raise CommandFailed(f"pip installed no {name} into {directory}")
    return found[0]


def _fetch(pins: dict[str, str], target: Path, machine: str) -> None:
    wanted = [f"{name}=={version}" for name, version in pins.items()]
    platforms = [f"--platform={tag}_{machine}" for tag in ("manylinux2014", "manylinux_2_28")]
    _run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
            "--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp",
            f"--python-version={OLDEST_PYTHON}", *platforms, f"--target={target}", *wanted,
        ],
        f"the agent needs {', '.join(wanted)}, not installed here in these versions",
        f"with access to a package index once: pip install {' '.join(wanted)}",
    )  # fmt: skip


def _run_shiv(site: Path, output: Path) -> None:
    _run(
        [
            sys.executable, "-m", "shiv.cli", "--reproducible", f"--site-packages={site}",
            "--entry-point=agent.entry.cli:main", "--python=/usr/bin/env python3",
            f"--root={UNPACK_ROOT}", f"--output-file={output}",
        ],
        "shiv could not build the agent file",
        "pip install -r constraints.txt",
    )  # fmt: skip


def _run(argv: list[str], seen: str, next: str) -> None:
    env = {**os.environ, "SOURCE_DATE_EPOCH": "315532800", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-1000:]
        raise CommandFailed(seen, said, next)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _normalised(raw: Path, target: Path) -> Path:
    """Rewritten with sorted entries, one time and one mode each, and without directories.

    shiv copies its own start-up files in directory order and with the modes they are installed
    with, both of which differ between machines.
    """
    with zipfile.ZipFile(raw) as source, target.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in sorted(source.namelist()):
                info = zipfile.ZipInfo(name, _ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o100644 << 16
                archive.writestr(info, source.read(name))
    target.chmod(0o755)
    _check(target)
    return target


def _check(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    foreign = [n for n in names if n.endswith(".so") and ".abi3." not in n]
    if foreign or "site-packages/agent/entry/cli.py" not in names:
        what = f"holds {foreign[0]}, made for one Python only" if foreign else "has no entry point"
        raise Refused(f"{path.name} {what}", "it would not start on every host")
