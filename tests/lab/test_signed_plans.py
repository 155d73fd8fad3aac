"""Plans that must be signed: real SSH keys, real ssh-keygen, and the hosts themselves refuse."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.console import say
from tests.lab.evidence import STATE, require_one_cluster, seed_keys, slow_scratch, tree
from tests.lab.faults import crash_loop, ids, rescue
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.operator import OK, REFUSED, Ended, fab, start_fab
from tests.lab.paths import REPO_DIR

WHERE = "Who may"
CONF = "/etc/etcd-rescue"
NAMESPACE = "etcd-rescue@plan"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """Keys of people; their public halves lie beside them."""
    made = {name: tmp_path / name for name in ("ann", "bob", "eve", "old", "gone")}
    for path in made.values():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return made


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Take away the plan files that refused rescues leave in the working directory."""
    before = set(REPO_DIR.glob("plan-*.json"))
    yield
    for path in set(REPO_DIR.glob("plan-*.json")) - before:
        path.unlink()


def public(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def sign(file: Path, key: Path, namespace: str = NAMESPACE) -> None:
    Path(f"{file}.sig").unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key), str(file)]
    subprocess.run(argv, check=True, capture_output=True)


def demand(lab: Lab, keys: dict[str, Path], *revoked: str) -> None:
    """Give every host the policy: ann, bob and gone may sign, old's time is over."""
    signers = "".join(f"{n}@example.org {public(keys[n])}\n" for n in ("ann", "bob", "gone"))
    signers += f'old@example.org valid-before="20200101" {public(keys["old"])}\n'
    for host in lab.hosts.values():
        host.run(["mkdir", "-p", "-m", "755", CONF])
        host.write(f"{CONF}/policy.yaml", "require_signed_plans: true\n", 0o644)
        host.write(f"{CONF}/allowed_signers", signers, 0o644)
        lines = "".join(f"{public(keys[name])}\n" for name in revoked)
        host.write(f"{CONF}/revoked_signers", lines, 0o644)


def picture(lab: Lab) -> dict[str, object]:
    """What a plan that is refused must leave as it is, on every host."""
    found: dict[str, object] = {"members": ids(lab, "master-0")}
    for name, host in lab.hosts.items():
        found[name] = tree(host, "/etc/kubernetes"), journals(host)
    return found


def journals(host: Host) -> list[str]:
    folder = host.path(f"{STATE}/journal")
    return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []


def refused(ended: Ended, told: str) -> None:
    """Exit code 3, what was seen, why, and what to do."""
    err = ended.expect(REFUSED).err
    assert re.search(told, err), err
    assert re.search(r"unsigned: .*\nwhy:  .*\nnext: ", err) or "usage" in err, err


@pytest.mark.reliability(
    WHERE, "on real hosts: unsigned, altered, another purpose, unknown, expired, revoked: refused"
)
def test_only_what_is_signed_by_one_who_may_is_carried_out(
    lab: Lab, keys: dict[str, Path], tmp_path: Path
) -> None:
    data, everyone, late = seed_keys(lab), list(lab.hosts), tmp_path / "late.json"
    demand(lab, keys, "gone")
    crash_loop(lab.hosts["master-1"])
    fab("plan", "master-1", "--save", str(late)).expect(OK)
    before = picture(lab)
    told = rescue("master-1", through="master-0").expect(REFUSED).err
    written = REPO_DIR / re.search(r"it was written to (plan-[0-9a-f]{12}\.json)", told)[1]  # type: ignore[index]
    assert f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY {written.name}; fab apply" in told
    file = tmp_path / "plan.json"
    text = written.read_text()
    file.write_text(text)
    assert json.loads(text)["recipe"] == "replace-member"

    def apply() -> Ended:
        return fab("apply", str(file), "--yes")

    refused(apply(), "is not signed")
    for who, told in (("eve", "may not sign now"), ("old", "may not sign now"),
                      ("gone", "not accepted")):  # fmt: skip
        sign(file, keys[who])
        refused(apply(), told)
    sign(file, keys["ann"], "file")
    refused(apply(), "not good for this plan")
    sign(file, keys["ann"])
    file.write_text(text.replace('"reason": "', '"reason": " ', 1))
    assert apply().code == 2  # its own hash says so before any host is asked for more
    file.write_text(f"{text}\n")  # the same plan to a reader, one byte more to the signature
    refused(apply(), "not good for this plan")
    agent = say(lab.hosts["master-1"], "fence", "reason=by hand", code=REFUSED).stderr
    assert "is not signed" in agent
    assert picture(lab) == before

    file.write_text(text)
    shown = fab("apply", str(file), "--dry-run").expect(OK)
    assert shown.result["id"] == json.loads(text)["id"]
    assert picture(lab) == before
    apply().expect(OK)
    require_one_cluster(lab, everyone, data)
    rows = fab("journal", shown.result["id"][:12]).expect(OK).result
    assert {r["data"]["principal"] for r in rows if r["kind"] == "signed"} == {"ann@example.org"}
    after = picture(lab)
    assert "carried out before" in apply().expect(OK).err
    sign(late, keys["ann"])  # made for a member that is ill; it is well by now
    assert "does not fit" in fab("apply", str(late), "--yes").expect(REFUSED).err
    assert picture(lab) == after


@pytest.mark.reliability(
    WHERE, "a plan that was begun is resumed and rolled back only while its signature is accepted"
)
def test_resume_and_rollback_check_the_signature_again(
    lab: Lab, keys: dict[str, Path], tmp_path: Path
) -> None:
    """The policy is the operator's own here: cluster.yaml, and no file on the hosts."""
    data, ill = seed_keys(lab), lab.hosts["master-1"]
    crash_loop(ill)
    slow_scratch(lab, ill, 2)
    file, config = tmp_path / "plan.json", tmp_path / "cluster.yaml"
    names = "".join(f"  - {name}\n" for name in lab.hosts)
    signers = "allowed_signers: signers\nrevoked_signers: revoked\n"
    config.write_text(f"require_signed_plans: true\n{signers}hosts:\n{names}")
    people = ("ann", "bob")
    (tmp_path / "signers").write_text("".join(f"{n} {public(keys[n])}\n" for n in people))
    (tmp_path / "revoked").touch()
    more = ("--cluster", str(config))
    fab("plan", "master-1", "--save", str(file), *more, hosts="").expect(OK)
    refused(fab("apply", str(file), "--yes", *more, hosts=""), "has no signature beside it")
    sign(file, keys["ann"])
    run = start_fab("apply", str(file), "--yes", *more, hosts="")
    run.wait_for("ok master-1: relocate data")
    run.kill()
    (tmp_path / "revoked").write_text(f"{public(keys['ann'])}\n")
    for task in (["resume"], ["rollback", "--yes"]):
        refused(fab(*task, *more, hosts=""), "ann with .* not accepted")
    sign(file, keys["bob"])  # somebody else stands for the same plan
    fab("apply", str(file), "--yes", *more, hosts="").expect(OK)
    require_one_cluster(lab, list(lab.hosts), data)
