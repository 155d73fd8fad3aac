"""A real kubeadm, to compare certificates with: the Go module's own program, built once.

    python -m tests.lab.kubeadm_build       builds it (two minutes on two cores), or says why not

KUBEADM in the environment names another one, of any version.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.lab import build, cache, recipe
from tests.lab.commands import run
from tests.lab.paths import CACHE_DIR, LAB_DIR

VERSION = "v1.34.4"
"""As in kubeadm/go.mod; kubeadm has it from its linker, and issues nothing without."""

_MODULE = LAB_DIR / "kubeadm"
_PACKAGE = "k8s.io/kubernetes/cmd/kubeadm"
_SET = "-X k8s.io/component-base/version.git"


def kubeadm_dir() -> Path:
    """The cache directory that has, or will have, `kubeadm`."""
    return CACHE_DIR / f"kubeadm-{recipe.digest(VERSION, _MODULE)}"


def kubeadm_program() -> str:
    """The kubeadm to compare with: KUBEADM's, else the one that was built; empty for none."""
    built = kubeadm_dir() / "kubeadm"
    return os.environ.get("KUBEADM", "") or (str(built) if built.exists() else "")


def ensure_kubeadm() -> Path:
    """Give the program, building it first where it is missing. Raises RuntimeError, OSError."""
    major, minor, _ = VERSION.lstrip("v").split(".")
    values = {"Version": VERSION, "Major": major, "Minor": minor}
    flags = " ".join(f"{_SET}{name}={value}" for name, value in values.items())

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="lab-go.") as name:
            places = {"GOCACHE": f"{name}/cache", "GOPATH": f"{name}/path"}
            options = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "auto", "GOFLAGS": "-modcacherw"}
            words = [build._find_go(Path(name)), "build", "-trimpath", "-buildvcs=false",
                     f"-ldflags=-s -w {flags}", "-o", target / "kubeadm", _PACKAGE]  # fmt: skip
            run(words, cwd=_MODULE, env={**os.environ, **options, **places}, timeout=1800)

    return cache.ensure(kubeadm_dir(), make) / "kubeadm"


def main() -> int:
    """Build it; where that cannot be, say so: what compares with it is then left out."""
    if kubeadm_program():
        return 0
    print("lab: building kubeadm, to compare certificates with", file=sys.stderr, flush=True)
    try:
        ensure_kubeadm()
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        print(f"lab: no kubeadm to compare with ({reason})", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
