"""Wheels for an operator's machine: of everything the tasks need, and of the tasks themselves."""

from __future__ import annotations

import base64
import hashlib
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import tomllib

from agent.errors import CommandFailed, UsageError
from coordinator.agent_file import PROJECT, read_pins

BUILDS_ONLY = frozenset({"shiv"})
"""What making the agent file needs: a bundle has that file."""

CACHE = PROJECT / "build/wheels"
"""Where wheels lie that were downloaded once."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_MANYLINUX = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
_PACKAGES = ("agent", "coordinator")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Target:
    """A Python of an operator's machine. python: "3.11"; machine: as `uname -m` says it."""

    python: str
    machine: str

    @property
    def name(self) -> str:
        """For a directory."""
        return f"cp{self.python.replace('.', '')}-{sys.platform}-{self.machine}"


def this_target() -> Target:
    """The Python that runs us."""
    return Target("{}.{}".format(*sys.version_info[:2]), platform.machine())


def project() -> Mapping[str, object]:
    """The [project] table of pyproject.toml."""
    table: Mapping[str, object] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return table


def needed_pins(constraints: Path = PROJECT / "constraints.txt") -> dict[str, str]:
    """Name → version of all that the tasks need at run time, as the project pins them.

    Raises UsageError where something is needed that has no pin, or is not installed here.
    """
    pins = {_normal(name): version for name, version in read_pins(constraints).items()}
    declared = project()["dependencies"]
    assert isinstance(declared, list)  # noqa: S101
    todo = [_name_of(text) for text in declared if _name_of(text) not in BUILDS_ONLY]
    found: dict[str, str] = {}
    while todo:
        name = todo.pop()
        if name in found:
            continue
        if name not in pins:
            raise UsageError(f"{constraints}: no pin for {name}", "all that is carried has one")
        found[name] = pins[name]
        todo += _requires(name)
    return dict(sorted(found.items()))


def _requires(name: str) -> list[str]:
    """What a package that is installed here needs, extras apart."""
    try:
        declared = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        raise UsageError(f"{name} is not installed here", next="make .venv/ready") from None
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in declared]
    return [_normal(r.name) for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]


def _name_of(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    return _normal(match[1]) if match else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ---- from the package index, once ----------------------------------------------------------------


def fetch_wheels(target: Target, cache: Path) -> list[Path]:
    """The wheels of all pins for a target, in the order of their names; downloaded where missing.

    Raises CommandFailed where a package index is needed and cannot be had.
    """
    pins, folder = needed_pins(), cache / target.name
    folder.mkdir(parents=True, exist_ok=True)
    missing = {n: v for n, v in pins.items() if _wheel_in(folder, n, v) is None}
    if missing:
        _download(target, missing, folder)
    found = [_wheel_in(folder, name, version) for name, version in pins.items()]
    return sorted(path for path in found if path is not None)


def _wheel_in(folder: Path, name: str, version: str) -> Path | None:
    """The wheel of that package; its name is NAME-VERSION-PYTHON-ABI-PLATFORM.whl (PEP 427)."""
    for path in sorted(folder.glob("*.whl")):
        parts = path.name.split("-")
        if (_normal(parts[0]), parts[1]) == (name, version):
            return path
    return None


def _download(target: Target, pins: Mapping[str, str], folder: Path) -> None:
    wanted = [f"{name}=={version}" for name, version in pins.items()]
    argv = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--disable-pip-version-check", f"--dest={folder}", f"--python-version={target.python}",
        "--implementation=cp",
    ]  # fmt: skip
    if sys.platform == "linux":
        argv += [f"--platform={tag}_{target.machine}" for tag in _MANYLINUX]
    done = subprocess.run([*argv, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed(
            f"wheels for Python {target.python} on {target.machine} are missing here: "
            f"{', '.join(wanted[:4])}{', …' if len(wanted) > 4 else ''}",
            (done.stderr.strip() or done.stdout.strip())[-800:],
            "once, with access to a package index: fab bundle",
        )


# ---- our own -------------------------------------------------------------------------------------


def own_wheel(target: Path, sources: Path = PROJECT) -> Path:
    """The wheel of the tasks, made in the directory `target`: the same sources, the same bytes."""
    from agent import __version__

    name = f"etcd_rescue-{__version__}"
    info = f"{name}.dist-info"
    files = {path.relative_to(sources).as_posix(): path.read_bytes() for path in _sources(sources)}
    files[f"{info}/METADATA"] = _metadata(__version__).encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: etcd-rescue\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/licenses/LICENSE"] = (sources / "LICENSE").read_bytes()
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in sorted(files.items())]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,\n"]).encode()
    wheel = target / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted(files.items()):
            entry = zipfile.ZipInfo(path, _ZIP_TIME)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return wheel


def _sources(top: Path) -> Iterable[Path]:
    for package in _PACKAGES:
        for path in sorted((top / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
    yield top / "fabfile.py"


def _metadata(version: str) -> str:
    table = project()
    needs = "".join(f"Requires-Dist: {n}=={v}\n" for n, v in needed_pins().items())
    return (
        f"Metadata-Version: 2.4\nName: {table['name']}\nVersion: {version}\n"
        f"Summary: {table['description']}\nLicense-Expression: {table['license']}\n"
        f"Requires-Python: {table['requires-python']}\n{needs}"
    )


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":  # so that later a bundle can be made without a network
    try:
        fetch_wheels(this_target(), CACHE)
    except CommandFailed as error:
        print(f"bundle: {error}", file=sys.stderr)
