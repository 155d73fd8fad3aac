"""The base root file system of every host."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab import cache, debs, recipe
from tests.lab.commands import run

Progress = Callable[[str], None]


def missing_programs() -> list[str]:
    """The packages that the machine lacks for running a lab."""
    found = recipe.MACHINE_PROGRAMS.items()
    return [package for program, package in found if not shutil.which(program)]


WITHOUT_GO = "ETCD_RESCUE_LAB_WITHOUT_GO"
"""Set in the environment: act as on a machine that can have neither crictl nor Go."""


def ensure_base(say: Progress) -> Path:
    """Return the base, building it first where it is missing.

    Where no crictl can be built, the hosts have none: etcd then runs under systemd only.
    """
    plain = recipe.debootstrap_dir()
    crictl = _ensure_crictl(say)

    def bootstrap(target: Path) -> None:
        say("making the hosts' root file system (debootstrap, a minute or more)")
        _debootstrap(target)

    def customize(target: Path) -> None:
        say("making the hosts' base out of it")
        _customize(cache.ensure(plain, bootstrap), target, crictl)

    return cache.ensure(recipe.base_dir() if crictl else recipe.bare_base_dir(), customize)


def _ensure_crictl(say: Progress) -> Path | None:
    try:
        return cache.ensure(recipe.crictl_build_dir(), _build_crictl) / "crictl"
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        say(f"crictl cannot be built here ({reason}): no static pods, etcd under systemd only")
        return None


def _debootstrap(target: Path) -> None:
    root = target / "root"
    include = ",".join(recipe.BASE_PACKAGES)
    words = ["debootstrap", "--variant=minbase", f"--include={include}", recipe.SUITE]
    run([*words, root, debs.MIRROR], timeout=1800)
    for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir()


def _customize(plain: Path, target: Path, crictl: Path | None) -> None:
    root = target / "root"
    run(["cp", "-a", plain / "root", root])
    run(["cp", "-r", "--preserve=mode", f"{recipe.HOST_FILES}/.", root])
    if crictl:
        shutil.copy2(crictl, root / "usr/bin")
    _add_user(root)
    _choose_units(root)
    _add_private_python(root)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").touch()
    (root / "etc/machine-id").write_text("")


def _add_user(root: Path) -> None:
    words = ["useradd", "--root", root, "--create-home", "--shell", "/bin/bash"]
    run([*words, recipe.LOGIN_USER])
    home = root / "home" / recipe.LOGIN_USER / ".ssh"
    home.mkdir(mode=0o700)
    os.chown(home, home.parent.stat().st_uid, home.parent.stat().st_gid)


def _choose_units(root: Path) -> None:
    run(["systemctl", f"--root={root}", "enable", *recipe.ENABLED_UNITS])
    run(["systemctl", f"--root={root}", "mask", *recipe.DISABLED_UNITS], check=False)
    run(["systemctl", f"--root={root}", "set-default", "multi-user.target"])


def _add_private_python(root: Path) -> None:
    """The kubelet's own interpreter: a host without python3 on PATH still has a kubelet."""
    folder = root / "opt/lab-kubelet"
    folder.mkdir(parents=True)
    interpreter = (root / "usr/bin/python3").resolve().name
    shutil.copy2(root / "usr/bin" / interpreter, folder / "kubelet")


def _build_crictl(target: Path) -> None:
    build_go(recipe.CRICTL_DIR, (("crictl", "."),), target)


def build_go(module: Path, programs: Sequence[tuple[str, str]], target: Path) -> None:
    """Build programs, (file name, package), of a Go module into a directory.

    A go.mod that asks for a newer Go than there is gets it from the module proxy.
    """
    with tempfile.TemporaryDirectory(prefix="lab-go.") as name:
        work = Path(name)
        env = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOCACHE": str(work / "cache"),
            "GOPATH": str(work / "path"),
            "GOTOOLCHAIN": "auto",
            "GOFLAGS": "-modcacherw",
        }
        words = [_find_go(work), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
        for program, package in programs:
            words_ = [*words, "-o", target / program, package]
            run(words_, cwd=module, env=env, timeout=900)


def _find_go(work: Path) -> Path:
    """The machine's Go, or one out of Debian packages that is not installed, only unpacked."""
    if os.environ.get(WITHOUT_GO):
        raise RuntimeError(f"{WITHOUT_GO} is set")
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    debs.unpack_packages(recipe.GO_FALLBACK_SUITE, recipe.GO_FALLBACK_PACKAGES, work)
    goroot = work / "usr/lib/go-1.23"
    for name in ("src", "api", "misc", "test"):
        (goroot / name).unlink(missing_ok=True)
    (goroot / "src").symlink_to(work / "usr/share/go-1.23/src")
    return goroot / "bin/go"
