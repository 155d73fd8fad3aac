"""A bundle on a machine without a network: unpacked, verified, run, installed; a real rescue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bundle.build import SIGNATURE, SUMS, Wish, make_bundle
from bundle.wheels import CACHE, this_target
from coordinator.agent_file import build_agent
from tests.lab.evidence import require_one_cluster, seed_keys
from tests.lab.faults import wait_for_diagnosis
from tests.lab.lab import Lab

_NO_ROUTES = ["unshare", "--net"]
"""A network namespace of its own: no route, and not even loopback is up."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The archive, signed, and the key that it must be signed with."""
    if not list((CACHE / this_target().name).glob("*.whl")):
        pytest.fail("no wheels here, and no network in a lab: make lab")
    folder = tmp_path_factory.mktemp("bundles")
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    first = make_bundle(folder / "1", Wish(key=key))
    again = make_bundle(folder / "2", Wish(key=key))
    assert first.sha256 == again.sha256
    assert first.signed
    return Path(first.path), key.with_name("key.pub")


def unpacked(archive: Path, target: Path) -> Path:
    """On a stick: read-only to its user, none of its files executable, as FAT has them."""
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    (top,) = target.iterdir()
    for path in top.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return top


def said(argv: Sequence[object], cwd: Path, env: Mapping[str, str], code: int = 0) -> str:
    """Run it; what it says on stdout, once it ended with this exit code."""
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, env=env, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stderr}\n{done.stdout}"
    assert "Traceback" not in done.stderr
    return done.stdout


def test_a_rescue_by_a_bundle_alone(lab: Lab, made: tuple[Path, Path], tmp_path: Path) -> None:
    archive, public = made
    keys = seed_keys(lab)
    top = unpacked(archive, tmp_path / "stick")
    home, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    elsewhere.mkdir()
    python = Path(getattr(sys, "_base_executable", sys.executable))
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": os.environ.get("HOME", "/root"),
        "XDG_CACHE_HOME": str(home), "PYTHON": str(python), "LANG": "C.UTF-8",
    }  # fmt: skip
    assert "default" not in said(["ip", "route"], elsewhere, env)

    verify = ["sh", top / "verify.sh", "--signer", public]
    assert "signed by the key in" in said([*_NO_ROUTES, *verify], elsewhere, env)
    assert "rescue-node" in said([*_NO_ROUTES, "sh", top / "fab", "--list"], elsewhere, env)

    # Out of the bundle as it is: a look, and the agent on the host is the one that it carried.
    fab = ["sh", str(top / "fab"), "-H", "master-0"]
    surveys = json.loads(said([*fab, "survey", "--output", "json"], elsewhere, env))
    assert {o["host"] for o in surveys} == set(lab.hosts)
    (agent,) = lab.hosts["master-0"].path("/var/lib/etcd-rescue/agent").glob("*.pyz")
    assert (
        agent.read_bytes() == (top / f"agent/rescue-agent-{build_agent().machine}.pyz").read_bytes()
    )

    # Installed from the wheels alone, without pip; and the rescue by what was installed.
    target = tmp_path / "opt/etcd-rescue"
    said([*_NO_ROUTES, "sh", top / "install", target], elsewhere, env)
    lab.hosts["master-2"].crash_etcd()
    wait_for_diagnosis(
        lambda d: (d["target"], d["recipe"]) == ("master-2", "replace-member"), "the diagnosis"
    )
    installed = [target / "bin/fab", "-H", "master-0"]
    out = said([*installed, "rescue-node", "master-2", "--yes", "--output", "json"], elsewhere, env)
    assert json.loads(out)["serving"] == 3
    require_one_cluster(lab, list(lab.hosts), keys)

    # Nothing was written to the stick, and what is not as it was made is refused.
    assert "signed by the key in" in said(verify, elsewhere, env)
    spoil_it(top, verify, elsewhere, env)


def spoil_it(top: Path, verify: Sequence[object], cwd: Path, env: Mapping[str, str]) -> None:
    """A bit flipped in each file, in turn; each is named."""
    files = [p for p in sorted(top.rglob("*")) if p.is_file()]
    for path in files[:: max(1, len(files) // 8)]:
        whole, name = path.read_bytes(), path.relative_to(top).as_posix()
        at = len(whole) // 2
        path.chmod(0o644)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        done = subprocess.run(
            [str(word) for word in verify], cwd=cwd, env=env, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        path.write_bytes(whole)
        assert done.returncode != 0, name
        assert "signed by" not in done.stdout
        assert name in (SUMS, SIGNATURE) or f"{name} was changed" in done.stderr
