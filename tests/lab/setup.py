"""Everything a lab needs on the machine, made once: packages, base, etcd, keys."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from agent.errors import RescueError
from images import runtime
from tests.lab import build, cache, debs, etcd_build, pki, pythons, recipe, skewed
from tests.lab.build import Progress
from tests.lab.disk import base_dir
from tests.lab.etcd_versions import DEFAULT, PREPARED, VERSIONS, GoSource
from tests.lab.kubeadm_build import kubeadm_dir
from tests.lab.openshift4 import base as base4
from tests.lab.openshift4.kubectl import ensure_kubectl, kubectl_dir
from tests.lab.openshift311.age import ensure_age
from tests.lab.reach import debian11


def obstacle() -> str | None:
    """Why no lab can run on this machine; None where one can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the lab runs on Linux on x86-64, not on {sys.platform} {platform.machine()}"
    if os.geteuid() != 0:
        return "the lab needs root"
    missing = build.missing_programs()
    if missing:
        return f"the lab needs {', '.join(missing)}: run tests/lab/setup.sh"
    return None


def is_ready() -> bool:
    """Whether everything has been made already."""
    is_bare = not has_crictl()
    wanted = [name for name in PREPARED if not (is_bare and needs_go(name))]
    made = [
        base_dir(),
        recipe.keys_dir(),
        recipe.age_dir(),
        kubectl_dir(),
        *map(recipe.etcd_dir, wanted),
    ]
    made += [] if is_bare else base4.made(recipe.etcd_dir(DEFAULT))
    return not build.missing_programs() and all(path.is_dir() for path in made)


def has_crictl() -> bool:
    """Whether hosts have crictl, and so can run static pods; known once the base is made."""
    return (base_dir() / "root/usr/bin/crictl").exists()


def needs_go(version: str) -> bool:
    """Whether an etcd version is built by Go."""
    return isinstance(VERSIONS[version].source, GoSource)


def ensure(
    versions: Sequence[str] = PREPARED, say: Progress = print, *, install: bool = False
) -> None:
    """Make what is missing; with install, the machine's packages too."""
    missing = build.missing_programs()
    if missing and install:
        say(f"installing {' '.join(missing)}")
        debs.install_into_machine(missing)
    base = _ensure_base(say)
    with ThreadPoolExecutor(len(versions) + 4) as pool:
        parts: list[Future[object]] = []
        parts += [pool.submit(_ensure_etcd, version, base, say) for version in versions]
        parts += [pool.submit(each) for each in (ensure_kubectl, pki.ensure_keys, ensure_age)]
        parts += [pool.submit(base4.root_dir)] if has_crictl() else []
        for part in parts:
            part.result()
    if has_crictl():
        say("making what hosts in OpenShift's layout have beyond that")
        base4.store_dir(recipe.etcd_dir(DEFAULT))
    of_others = [*base4.made(*map(recipe.etcd_dir, VERSIONS)), kubectl_dir()]
    of_others += [kubeadm_dir(), skewed.clock_dir()]
    cache.remove_old(lambda path: recipe.is_current(path) or is_of_reach(path) or path in of_others)


def _ensure_base(say: Progress) -> Path:
    """The base. Go compiles crictl for it while the packages come and are unpacked."""
    if recipe.base_dir().is_dir() or recipe.debootstrap_dir().is_dir():
        return build.ensure_base(say)
    with ThreadPoolExecutor(1) as pool:
        say("making the hosts' root file system (debootstrap, a minute or more)")
        plain = pool.submit(cache.ensure, recipe.debootstrap_dir(), build._debootstrap)
        base = build.ensure_base(say)
        plain.result()
    return base


def _ensure_etcd(version: str, base: Path, say: Progress) -> None:
    if needs_go(version) and not (base / "root/usr/bin/crictl").exists():
        say(f"etcd {version} is built by Go, which this machine cannot have: left out")
        return
    etcd_build.ensure_etcd(version, base, say)


def is_of_reach(path: Path) -> bool:
    """Whether a cached directory holds another Python, or another Debian, for hosts."""
    return pythons.is_current(path) or path == debian11.base_dir()


def ensure_for_tests(say: Progress = print) -> None:
    """Make what only tests need, and no demo: the carried runtime, other Pythons, a wrong clock.

    What cannot be had is said; its tests then fail by themselves.
    """
    try:
        pythons.ensure()
        skewed.ensure_clock()
        runtime.build_for_tests(say=say)
        if os.environ.get("LAB_PYTHONS") == "all":
            debian11.root_dir()
    except (RuntimeError, RescueError, OSError) as error:
        say(f"hosts with another Python, a wrong clock, or the runtime, cannot be made: {error}")
