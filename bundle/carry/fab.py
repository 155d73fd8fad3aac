"""Runs the tasks out of a bundle, or puts them into a virtual environment, from its wheels alone.

    fab.py TASK …         run it
    fab.py --fits         end with 0 where this Python is one that wheels are here for
    fab.py --install DIR  make the virtual environment DIR

It is started by `fab` and `install`, which look for a Python that fits.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from typing import Any, NoReturn

HERE = os.path.dirname(os.path.abspath(__file__))
CARRIED = ("agent", "runtime", "image")


def main(argv: list[str]) -> int:
    """Run the command line; its exit code."""
    manifest = read_manifest()
    wheels = fitting(manifest)
    if argv[:1] == ["--fits"]:
        return 0
    if argv[:1] == ["--install"]:
        return install(manifest, wheels, os.path.abspath(os.path.expanduser(argv[1])))
    os.umask(0o077)
    run(cached(wheels), HERE, argv)
    return 0


def read_manifest() -> Any:
    """What BUNDLE.json says."""
    with open(os.path.join(HERE, "BUNDLE.json")) as file:
        return json.load(file)


def fitting(manifest: Any) -> list[str]:
    """The wheels for this Python; ends the process, in words, where there are none."""
    here = "{}.{}".format(*sys.version_info[:2])
    machine = platform.machine()
    is_same = (sys.platform, machine) == (manifest["system"], manifest["machine"])
    is_same &= platform.python_implementation() == "CPython"
    if not is_same or here not in manifest["pythons"]:
        pythons = " or ".join(sorted(manifest["pythons"]))
        die(
            f"fab: this is Python {here} on {sys.platform} {machine}; the wheels in this bundle "
            f"are for CPython {pythons} on {manifest['system']} {manifest['machine']}"
        )
    wheels: list[str] = manifest["pythons"][here]
    return wheels


def die(*lines: str) -> NoReturn:
    """End with these lines."""
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(2)


def sums() -> dict[str, str]:
    """Name → sha256, of SHA256SUMS."""
    with open(os.path.join(HERE, "SHA256SUMS")) as file:
        return {line.rstrip("\n")[66:]: line[:64] for line in file}


def cached(wheels: list[str]) -> str:
    """The wheels unpacked below the user's cache, once: a stick may be read-only, or noexec."""
    known = sums()
    key = hashlib.sha256("".join(known["wheels/" + name] for name in wheels).encode()).hexdigest()
    default = os.path.join(os.path.expanduser("~"), ".cache")
    parent = os.path.join(os.environ.get("XDG_CACHE_HOME") or default, "etcd-rescue")
    make_private(parent)
    site = os.path.join(parent, "site-" + key[:32])
    if not os.path.isdir(site):
        work = tempfile.mkdtemp(prefix=".new-", dir=parent)
        try:
            unpack(wheels, work)
            os.rename(work, site)
        except OSError:
            if not os.path.isdir(site):  # else another one was faster
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return site


def make_private(path: str) -> None:
    """A directory of the user's own: what is imported from it could be anybody's otherwise."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    info = os.lstat(path)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
        die(
            f"fab: {path} is a link, somebody else's, or open to others",
            f"next: chmod go-w {path}; or XDG_CACHE_HOME=/another/place sh fab",
        )


def unpack(wheels: list[str], target: str) -> None:
    """Unpack these wheels into a directory; each is what SHA256SUMS says, or the process ends.

    All of them are Root-Is-Purelib or platform wheels without data or scripts that we need.
    """
    known = sums()
    for name in wheels:
        path = os.path.join(HERE, "wheels", name)
        with open(path, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != known["wheels/" + name]:
                die(f"fab: wheels/{name} was changed, or damaged on the way", "next: sh verify.sh")
            with zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    if ".data/" not in member.split("/", 1)[0] + "/":
                        archive.extract(member, target)


def run(site: str, top: str, argv: list[str]) -> None:
    """Become fab, with the tasks in `site` and what is carried below `top`."""
    sys.path.insert(0, site)
    sys.argv = ["fab", "--search-root", site, *argv]
    os.environ["ETCD_RESCUE_AGENT_DIR"] = os.path.join(top, "agent")
    os.environ.setdefault("ETCD_RESCUE_RUNTIME_DIR", os.path.join(top, "runtime"))
    from fabric.main import program

    program.run()


LAUNCHER = """\
#!{python}
import sys
sys.dont_write_bytecode = False
sys.path.insert(0, {share!r})
import fab
fab.HERE = {share!r}
fab.run({site!r}, {share!r}, sys.argv[1:])
"""


def install(manifest: Any, wheels: list[str], target: str) -> int:
    """Make a virtual environment; nothing is at its place before it is whole."""
    if os.path.exists(target):
        die(f"install: {target} is there already", "next: sh install ANOTHER")
    parent = os.path.dirname(target)
    os.makedirs(parent, exist_ok=True)
    command = [sys.executable, "-E", "-s", "-m", "venv", "--without-pip", target]
    if subprocess.call(command) != 0:
        die(f"install: {sys.executable} could not make a virtual environment")
    try:
        python = "python{}.{}".format(*sys.version_info[:2])
        site = os.path.join(target, "lib", python, "site-packages")
        unpack(wheels, site)
        share = os.path.join(target, "share", "etcd-rescue")
        os.makedirs(share)
        shutil.copy(os.path.join(HERE, "fab.py"), share)
        for name in CARRIED:
            if os.path.isdir(os.path.join(HERE, name)):
                shutil.copytree(os.path.join(HERE, name), os.path.join(share, name))
        fab = os.path.join(target, "bin", "fab")
        with open(fab, "w") as file:
            file.write(LAUNCHER.format(python=f"{target}/bin/python", site=site, share=share))
        os.chmod(fab, 0o755)  # noqa: S103 (a command)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    print(f"etcd-rescue {manifest['version']}: {fab} --list")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
