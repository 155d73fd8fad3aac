"""Restores by the real tools: what etcd then serves, what stays as it was, and killed runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agent.actions.base import Context
from agent.actions.restore_tool import find_tool
from agent.errors import Damaged, PreconditionFailed, StepFailed
from agent.etcd.client import EtcdClient
from agent.host import STATE_DIR
from agent.model.facts import EtcdConfig
from agent.model.plan import Plan
from agent.platforms.kubeadm import Kubeadm
from agent.records.journal import Journal
from agent.runner import Runner
from agent.survey.offline import read_offline
from tests.unit.etcd_lab import Node, Plain, etcd_binaries, make_nodes, needs_etcd
from tests.unit.etcd_lab import running as running_nodes
from tests.unit.killing import chosen, count_lines, fresh, killed
from tests.unit.rooted import DATA, MANIFEST, ProgramsOutside, kubeadm_host, picture, plan_of
from tests.unit.survey.manifests import with_flags

pytestmark = needs_etcd()

SNAPSHOT = "/srv/s.db"
PEER = "http://10.0.0.1:2380"
TOOLS = "/usr/local/bin"
KEYS = {f"/registry/pods/default/p{i:03}": f"value {i}".encode() for i in range(60)}
LEASES = [f"/registry/masterleases/10.0.0.{i}" for i in (1, 2)]
HTTP = (
    "--advertise-client-urls=http://10.0.0.1:2379",
    "--data-dir=/var/lib/etcd",
    f"--initial-advertise-peer-urls={PEER}",
    f"--initial-cluster=m0={PEER}",
    "--listen-client-urls=http://127.0.0.1:2379",
    f"--listen-peer-urls={PEER}",
    "--name=m0",
)


class Here(ProgramsOutside):
    """A host below a prefix that runs its programs outside of it, on files inside of it."""

    def outside(self, argv: Sequence[str]) -> list[str]:
        inside = re.compile(r"(^|=)(?=/(?:var/lib|srv|usr/local/bin)/)")
        return [inside.sub(rf"\g<1>{self.root}", word) for word in argv]


@dataclass(frozen=True)
class Taken:
    """A snapshot by one version's own tool. numbers: of its etcd. cluster: the cluster's ID."""

    file: Path
    programs: Path
    revision: int
    cluster: str

    @property
    def digest(self) -> str:
        return sha256(self.file.read_bytes()).hexdigest()


ONE_VERSION = [path for path in etcd_binaries() if "/etcd-3.5-" in path]
"""Enough where what is killed is ours."""


@pytest.fixture(scope="module", params=etcd_binaries(), ids=lambda path: path.split("/")[-3])
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    folder, programs = tmp_path_factory.mktemp("taken"), Path(request.param).parent
    with running_nodes(folder, request.param, Plain(tls=False)) as (node,):
        with node.client() as client:
            for key, value in KEYS.items():
                client.put(key.encode(), value)
            for key in LEASES:
                client.put(key.encode(), b"lease")
            status = client.status()
        subprocess.run(
            [programs / "etcdctl", "--endpoints", node.endpoint, "snapshot", "save",
             folder / "s.db"],
            check=True, capture_output=True, env={"ETCDCTL_API": "3"},
        )  # fmt: skip
    return Taken(folder / "s.db", programs, status.revision, status.cluster_id)


@pytest.fixture
def host(taken: Taken, tmp_path: Path) -> Here:
    """A kubeadm host that serves without TLS, with its tools on the PATH and the snapshot."""
    root = tmp_path / "root"
    kubeadm_host(root)
    manifest = root / MANIFEST[1:]
    manifest.write_text(with_flags(base=HTTP))
    (root / TOOLS[1:]).mkdir(parents=True)
    for program in taken.programs.iterdir():
        inside = root / TOOLS[1:] / program.name
        inside.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        inside.chmod(0o755)
    (root / "srv").mkdir()
    shutil.copy(taken.file, root / SNAPSHOT[1:])
    return Here(str(root))


def context(host: Here) -> Context:
    return Context(host, Kubeadm(), "plan", "01", print)


def can_bump(host: Here) -> bool:
    return find_tool(context(host), EtcdConfig("", "", "m0", DATA)).bumps


def restore_args(taken: Taken, **given: Any) -> dict[str, Any]:
    values = {
        "snapshot": SNAPSHOT, "sha256": taken.digest, "name": "m0", "peer_urls": [PEER],
        "initial_cluster": f"m0={PEER}", "token": "a fresh one",
    }  # fmt: skip
    return {**values, **given}


def swap(taken: Taken, **given: Any) -> Plan:
    return plan_of(
        ("restore_snapshot", restore_args(taken, **given)),
        ("park_definition", {}),
        ("stop_etcd", {"hold": 0.0}),
        ("relocate_data", {}),
        ("install_data", {"scratch": False}),
        ("unpark_definition", {}),
    )


def run(host: Here, plan: Plan, *steps: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for step in steps or [step.id for step in plan.steps()]:
        runner = Runner(host, Journal.create(host, plan), print)
        found = runner.run(step)["result"]
    return found


def undo(host: Here, plan: Plan) -> None:
    runner = Runner(host, Journal.open(host, plan.id), print)
    for step in reversed(plan.steps()):
        runner.undo(step.id)


def served(taken: Taken, data_dir: Path, folder: Path) -> Iterator[Node]:
    """An etcd on a copy of that data, on loopback, alone."""
    (node,) = make_nodes(folder, str(taken.programs / "etcd"), Plain(tls=False))
    shutil.copytree(data_dir, node.config.data_dir)
    node.start()
    try:
        node.wait_healthy()
        yield node
    finally:
        node.stop()


def keys_of(client: EtcdClient) -> dict[str, bytes]:
    return {kv.key.decode(): kv.value for kv in client.range(b"\0", b"\0").kvs}


def test_what_is_restored_is_served_with_another_identity(
    taken: Taken, host: Here, tmp_path: Path
) -> None:
    amount = 1_000_000_000 if can_bump(host) else 0
    data = Path(f"{host.root}{DATA}")
    (data / "member").chmod(0o750)
    (data / "member/snap/db").chmod(0o640)
    for path in (data, *data.rglob("*")):
        os.chown(path, 4321, 4322)
    before = picture(Path(host.root), f"{DATA}/member")
    plan = swap(taken, bump=amount)
    run(host, plan)

    for node in served(taken, data, tmp_path / "served"):
        with node.client() as client:
            status = client.status()
            (member,) = client.members()
            assert keys_of(client) == {**KEYS, **dict.fromkeys(LEASES, b"lease")}
            assert status.revision == taken.revision + amount
            assert status.cluster_id != taken.cluster
            assert (member.name, member.peer_urls) == (node.config.name, (PEER,))
            assert client.put(b"/registry/new", b"x") == status.revision + 1

    quarantined = f"{STATE_DIR}/quarantine/{plan.short_id}/04-member"
    kept = picture(Path(host.root), quarantined)
    assert list(kept.values()) == list(before.values())
    for path in (data / "member", *(data / "member").rglob("*")):
        info = path.stat()
        assert (info.st_uid, info.st_gid) == (4321, 4322), path
        assert info.st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path


def test_a_copy_of_a_database_is_restored_by_word_only(taken: Taken, host: Here) -> None:
    body = taken.file.read_bytes()[:-32]
    Path(f"{host.root}{SNAPSHOT}").write_bytes(body)
    plan = swap(taken, sha256=sha256(body).hexdigest())
    with pytest.raises(Damaged, match="no sha256 at the end"):
        run(host, plan, "01")
    plan = swap(taken, sha256=sha256(body).hexdigest(), copy=True)
    assert f"at revision {taken.revision}" in run(host, plan, "01")["seen"]


@pytest.mark.parametrize("place", [0, 5000, -40, -1])
def test_a_flipped_bit_stops_it_and_nothing_is_left_of_it(
    taken: Taken, host: Here, place: int
) -> None:
    before = picture(Path(host.root), DATA, MANIFEST)
    data = bytearray(taken.file.read_bytes())
    data[place] ^= 1
    Path(f"{host.root}{SNAPSHOT}").write_bytes(data)
    plan = swap(taken)
    with pytest.raises(Damaged):
        run(host, plan, "01")
    undo(host, plan)
    assert picture(Path(host.root), DATA, MANIFEST) == before
    assert not os.path.exists(f"{host.root}{STATE_DIR}/work/{plan.short_id}")


def test_a_file_that_is_not_the_plans(taken: Taken, host: Here) -> None:
    with pytest.raises(StepFailed, match="not the file that this plan was made for") as failed:
        run(host, swap(taken, sha256="00" * 32), "01")
    assert "fab rollback" in failed.value.next


def test_a_tool_that_fails_says_why(taken: Taken, host: Here) -> None:
    tool = Path(f"{host.root}{TOOLS}/etcdutl")
    tool.unlink(missing_ok=True)
    real = taken.programs / ("etcdutl" if (taken.programs / "etcdutl").exists() else "etcdctl")
    tool.write_text(
        '#!/bin/sh\ncase "$*" in *--help*|version) exec ' + str(real) + ' "$@";; esac\n'
        'echo "no room for it" >&2; exit 3\n'
    )
    tool.chmod(0o755)
    with pytest.raises(StepFailed, match="exit code 3: no room for it"):
        run(host, swap(taken), "01")


def test_no_tool_says_what_was_tried_and_what_to_do(taken: Taken, host: Here) -> None:
    for program in Path(f"{host.root}{TOOLS}").iterdir():
        program.unlink()
    with pytest.raises(PreconditionFailed, match="no etcdutl or etcdctl") as failed:
        run(host, swap(taken), "01")
    assert "--tool PATH" in failed.value.next


def test_a_revision_that_the_tool_cannot_raise_is_refused(taken: Taken, host: Here) -> None:
    if can_bump(host):
        pytest.skip("this version can")
    with pytest.raises(PreconditionFailed, match="no --bump-revision"):
        run(host, swap(taken, bump=5), "01")


def test_another_name_than_the_definitions_is_refused(taken: Taken, host: Here) -> None:
    with pytest.raises(PreconditionFailed, match="another name or address") as failed:
        run(host, swap(taken, name="m1"), "01")
    assert failed.value.next


def test_the_proof_counts_and_takes_the_stale_leases(taken: Taken, host: Here) -> None:
    plan = plan_of(
        ("restore_snapshot", restore_args(taken)),
        ("prove_restored", {"revision": taken.revision, "keys": len(KEYS) + len(LEASES)}),
    )
    run(host, plan, "01")
    # The definition's image is not here: the etcd on the PATH is the node's own.
    said = run(host, plan, "02")
    assert said["removed_leases"] == len(LEASES)
    assert said["keys"] == len(KEYS) + len(LEASES)
    work = f"{STATE_DIR}/work/{plan.short_id}"
    facts = read_offline(host, work)
    assert facts.damage == ()
    assert facts.db is not None
    assert facts.db.revision == taken.revision + 1
    assert json.loads((Path(host.root) / work[1:] / "ready.json").read_text())["keys"] == 62


@pytest.mark.parametrize(
    ("wrong", "match"), [({"keys": 3}, "62 keys"), ({"revision": 10**9}, "at")]
)
def test_a_proof_that_fails_names_both_numbers(
    taken: Taken, host: Here, wrong: dict[str, int], match: str
) -> None:
    plan = plan_of(("restore_snapshot", restore_args(taken)), ("prove_restored", wrong))
    run(host, plan, "01")
    with pytest.raises(StepFailed, match=match):
        run(host, plan, "02")


def test_a_definition_of_a_set_is_parked_and_taken_back(taken: Taken, host: Here) -> None:
    manifest, source = Path(f"{host.root}{MANIFEST}"), "/srv/etcd.yaml"
    args = {"source": source, "path": MANIFEST, "sha256": sha256(manifest.read_bytes()).hexdigest()}
    shutil.copy(manifest, f"{host.root}{source}")
    place = plan_of(("place_definition", args))
    with pytest.raises(PreconditionFailed, match="has a definition of etcd"):
        run(host, place)

    manifest.unlink()
    plan = plan_of(("place_definition", args), ("unpark_definition", {}), created=2.0)
    run(host, plan)
    assert manifest.read_bytes() == Path(f"{host.root}{source}").read_bytes()
    undo(host, plan)
    assert not manifest.exists()
    with pytest.raises(PreconditionFailed, match="no etcd definition"):
        run(host, swap(taken), "01")

    with pytest.raises(PreconditionFailed, match="not the file that the plan"):
        run(host, plan_of(("place_definition", {**args, "sha256": "0" * 64}), created=3.0))


# ---- kills ---------------------------------------------------------------------------------------


def state(root: Path) -> dict[str, Any]:
    """What a restore leaves, by path: content's hash but for what differs from run to run."""
    found = picture(root, DATA, "/etc")
    quarantine = f"{STATE_DIR}/quarantine"
    moved = picture(root, quarantine) if (root / quarantine[1:]).exists() else {}
    different = ("member/snap", "member/wal")  # a fresh member: times in its log, IDs by token
    kept = {p: f[0] for p, f in moved.items()}
    now = {p: "" if any(d in p for d in different) else f[0] for p, f in found.items()}
    return {**{re.sub(r"quarantine/\w+", "q", p): h for p, h in kept.items()}, **now}


@pytest.mark.reliability(
    "Kill at every step", "a restore killed anywhere goes on to the same end, or back to the start"
)
@pytest.mark.parametrize("taken", ONE_VERSION, indirect=True, ids=["3.5"] * len(ONE_VERSION))
def test_a_killed_restore_goes_on_or_back(taken: Taken, host: Here, tmp_path: Path) -> None:
    plan, template, root = swap(taken), tmp_path / "template", tmp_path / "killed"
    shutil.copytree(host.root, template, symlinks=True)
    original = picture(template, f"{DATA}/member", MANIFEST)
    at_root = Here(str(root))
    fresh(template, root)
    for step in plan.steps():
        before = tmp_path / f"before-{step.id}"
        fresh(root, before)
        lines = count_lines(run, at_root, plan, step.id)
        after = state(root)
        for at in chosen(lines, 2):
            fresh(before, root)
            assert killed(at, run, at_root, plan, step.id), (step.id, at)
            run(at_root, plan, step.id)
            assert state(root) == after, (step.id, at)
            fresh(before, root)
            assert killed(at, run, at_root, plan, step.id), (step.id, at)
            Journal.create(at_root, plan)
            undo(at_root, plan)
            assert picture(root, f"{DATA}/member", MANIFEST) == original, (step.id, at)
        fresh(before, root)
        run(at_root, plan, step.id)
