"""Issuing and bringing a CA as steps of a plan: done, interrupted, taken back byte for byte."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.errors import PreconditionFailed, RescueError
from agent.host import STATE_DIR
from agent.records.journal import Journal
from agent.runner import Runner
from tests.unit.actions.test_issuing import make_authority
from tests.unit.rooted import Rooted, kubeadm_host, picture, plan_of

PKI = "/etc/kubernetes/pki"
ALL = ["server", "peer", "client", "apiserver-client"]
pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl on this machine")


class Certified(Rooted):
    """A host under a prefix that runs openssl of this machine on its own files."""

    has_openssl = True
    kubeadm = ""
    dies_at = 0

    def run(self, argv: Any, *args: Any, **words: Any) -> Any:
        if argv[0] not in ("openssl", self.kubeadm):
            return super().run(argv, *args, **words)
        inside = [self.root + w if w.startswith(("/var/lib", "/etc")) else w for w in argv]
        plain = Rooted("/")
        return plain.run(inside, *args, **words)

    def which(self, name: str) -> str:
        if name == "kubeadm":
            return self.kubeadm
        return "openssl" if name == "openssl" and self.has_openssl else ""

    def write_atomic(self, path: str, *args: Any, **words: Any) -> None:
        if path.startswith(PKI):
            self.dies_at -= 1
            if self.dies_at == 0:
                raise KeyboardInterrupt  # as a killed agent: nothing of ours runs any more
        super().write_atomic(path, *args, **words)


@pytest.fixture
def host(tmp_path: Path) -> Certified:
    kubeadm_host(tmp_path)
    (tmp_path / "etc/kubernetes/manifests/kube-apiserver.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver}\n"
        "spec: {containers: [{name: kube-apiserver, image: a, command: [kube-apiserver]}]}\n"
    )
    make_authority(tmp_path)
    return Certified(str(tmp_path))


def runner(host: Certified, *steps: tuple[str, dict[str, Any]]) -> Runner:
    return Runner(host, Journal.create(host, plan_of(*steps)), lambda _text: None)


def issued(host: Certified) -> Runner:
    """A host whose certificates were issued once."""
    first = runner(host, ("issue_certificates", {"roles": ALL}))
    assert first.run("01")["result"]["by"] == "openssl"
    return first


def pki_of(host: Certified) -> dict[str, Any]:
    """Every file's content, owner, mode, xattrs and times."""
    return {p: v for p, v in picture(Path(host.root), PKI).items() if v[0] != "dir"}


def journal_text(host: Certified) -> str:
    return "".join(p.read_text() for p in Path(host.real(f"{STATE_DIR}/journal")).iterdir())


def test_missing_ones_are_made_and_taken_away_again(host: Certified) -> None:
    before = pki_of(host)
    first = issued(host)
    made = pki_of(host)
    assert {Path(p).name for p in set(made) - set(before)} == {
        f"{stem}.{end}"
        for stem in ("server", "peer", "healthcheck-client", "apiserver-etcd-client")
        for end in ("crt", "key")
    }
    first.undo("01")
    assert pki_of(host) == before


def test_old_ones_come_back_byte_for_byte(host: Certified) -> None:
    issued(host)
    Path(host.real(f"{PKI}/etcd/server.crt")).chmod(0o640)
    before = pki_of(host)
    again = runner(host, ("lift_fence", {}), ("issue_certificates", {"roles": ["server", "peer"]}))
    again.run("02")
    after = pki_of(host)
    changed = {Path(p).name for p, v in before.items() if after[p][0] != v[0]}
    assert changed == {"server.crt", "server.key", "peer.crt", "peer.key"}
    assert after["etc/kubernetes/pki/etcd/server.crt"][3] & 0o777 == 0o640
    again.undo("02")
    assert pki_of(host) == before
    again.undo("02")
    assert pki_of(host) == before


@pytest.mark.reliability(
    "Kill at every step",
    "an agent killed between any two files of new certificates: finished or taken back whole",
)
@pytest.mark.parametrize("how", ["finished", "taken back"])
@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_killed_between_two_files(host: Certified, place: int, how: str) -> None:
    issued(host)
    before = pki_of(host)
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("lift_fence", {}),
        ("issue_certificates", {"roles": ["server", "peer"]}),
    )
    host.dies_at = place
    with pytest.raises(KeyboardInterrupt):
        runner(host, *steps).run("02")
    later = Certified(host.root)
    if how == "taken back":
        runner(later, *steps).undo("02")
        assert pki_of(later) == before
        return
    assert runner(later, *steps).run("02")["outcome"] == "done"
    assert runner(later, *steps).run("02")["outcome"] == "already"
    runner(later, *steps).undo("02")
    assert pki_of(later) == before


def test_no_key_is_in_the_journal_or_left_in_the_work_directory(host: Certified) -> None:
    issued(host)
    told = journal_text(host)
    for key in Path(host.real(PKI)).rglob("*.key"):
        assert not [x for x in key.read_text().splitlines() if x in told and "-----" not in x]
    assert not [p for p in Path(host.real(f"{STATE_DIR}/work")).rglob("*") if p.is_file()]


def test_a_kubeadm_that_will_not_is_told_of_and_openssl_does_it(host: Certified) -> None:
    kubeadm = Path(host.root) / "usr/bin/kubeadm"
    kubeadm.parent.mkdir(parents=True)
    kubeadm.write_text(
        "#!/bin/sh\n[ $1 = version ] && echo v1.31.4 && exit 0\necho no >&2; exit 3\n"
    )
    kubeadm.chmod(0o755)
    host.kubeadm = str(kubeadm)
    said: list[str] = []
    steps = plan_of(("issue_certificates", {"roles": ALL}))
    done = Runner(host, Journal.create(host, steps), said.append).run("01")
    assert done["result"]["by"] == "openssl"
    assert any("kubeadm does not make them" in text and "no" in text for text in said)


def test_refused_without_a_way_to_sign(host: Certified) -> None:
    host.has_openssl = False
    with pytest.raises(PreconditionFailed, match="neither kubeadm nor openssl"):
        runner(host, ("issue_certificates", {"roles": ["server"]})).run("01")


@pytest.mark.parametrize("damage", ["missing", "other", "ended"])
def test_refused_by_a_ca_that_cannot_issue(host: Certified, damage: str, tmp_path: Path) -> None:
    key = Path(host.real(f"{PKI}/etcd/ca.key"))
    if damage == "missing":
        key.unlink()
    else:
        make_authority(tmp_path if damage == "ended" else tmp_path / "b", days=-1)
        if damage == "other":
            shutil.copy(tmp_path / "b/etc/kubernetes/pki/etcd/ca.key", key)
    with pytest.raises(PreconditionFailed) as refused:
        runner(host, ("issue_certificates", {"roles": ["server"]})).run("01")
    said = {"missing": "is not here", "other": "does not belong", "ended": "expired"}[damage]
    assert said in refused.value.seen
    assert refused.value.next


# ---- the CA --------------------------------------------------------------------------------------


def bring(host: Certified, fingerprint: str, secrets: dict[str, str]) -> dict[str, Any]:
    step = ("install_authority", {"source": "m1", "fingerprint": fingerprint})
    return runner(host, step).run("01", secrets)


@pytest.fixture
def lent(host: Certified, tmp_path: Path) -> tuple[dict[str, str], str]:
    """What another host lends, and its fingerprint; this host has lost its own."""
    from cryptography.hazmat.primitives import hashes

    found = make_authority(tmp_path / "other")
    folder = tmp_path / "other/etc/kubernetes/pki/etcd"
    texts = {
        "certificate": (folder / "ca.crt").read_text(),
        "key": (folder / "ca.key").read_text(),
    }
    return texts, found.fingerprint(hashes.SHA256()).hex()


def test_a_ca_is_put_in_place_and_taken_back(
    host: Certified, lent: tuple[dict[str, str], str]
) -> None:
    texts, fingerprint = lent
    before = pki_of(host)
    done = bring(host, fingerprint, texts)
    key = Path(host.real(f"{PKI}/etcd/ca.key"))
    assert key.read_text() == texts["key"]
    assert key.stat().st_mode & 0o777 == 0o600
    assert done["result"]["key_sha256"] == hashlib.sha256(texts["key"].encode()).hexdigest()
    lines = [x for x in texts["key"].splitlines() if "-----" not in x]
    assert not [x for x in lines if x in journal_text(host)]
    step = ("install_authority", {"source": "m1", "fingerprint": fingerprint})
    again = runner(host, step)
    assert again.run("01", {})["outcome"] == "already"
    again.undo("01")
    assert pki_of(host) == before


@pytest.mark.parametrize("wrong", ["nothing", "another", "torn"])
def test_only_the_ca_that_was_surveyed_is_taken(
    host: Certified, lent: tuple[dict[str, str], str], wrong: str, tmp_path: Path
) -> None:
    texts, fingerprint = lent
    before = pki_of(host)
    given = {
        "nothing": {},
        "another": {**texts, "certificate": Path(host.real(f"{PKI}/etcd/ca.crt")).read_text()},
        "torn": {**texts, "key": texts["key"][:400]},
    }[wrong]
    with pytest.raises(RescueError) as refused:
        bring(host, fingerprint, given)
    assert refused.value.next
    assert pki_of(host) == before
    lines = [x for x in texts["key"].splitlines() if "-----" not in x]
    assert not [x for x in lines if x in journal_text(host) + json.dumps(refused.value.to_plain())]


def test_only_a_step_that_lends_gives_the_ca(host: Certified) -> None:
    steps = (
        ("issue_certificates", {"roles": ["server"]}),
        ("check_authority", {"fingerprint": ""}),
    )
    lender = runner(host, *steps)
    with pytest.raises(RescueError, match="lends nothing"):
        lender.lend("01")
    given = lender.lend("02")
    assert given["key"] == Path(host.real(f"{PKI}/etcd/ca.key")).read_text()
