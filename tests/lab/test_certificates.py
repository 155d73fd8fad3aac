"""Certificates of etcd on real hosts: ended, lost or wrong ones are made anew, no key is spilt."""

from __future__ import annotations

import datetime
import ipaddress
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.lab.evidence import STATE, require_one_cluster, seed_keys, tree
from tests.lab.faults import PKI, ids, let_expire, rescue, wait_for_diagnosis
from tests.lab.host import Host, wait_until
from tests.lab.kubeadm_build import kubeadm_program
from tests.lab.lab import Lab
from tests.lab.operator import OK, REFUSED, Ended, fab, start_fab
from tests.lab.skewed import put_clock_right, set_clock

THREE = ["master-0", "master-1", "master-2"]
LEAVES = ("server", "peer", "healthcheck-client")


def certificate(host: Host, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(host.read(f"{PKI}/{name}.crt"))


def names_in(found: x509.Certificate) -> set[str]:
    value = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in value}


def require_good(host: Host, name: str) -> None:
    """It is of the lab's CA, of its own key, valid now, and private."""
    found, authority = certificate(host, name), certificate(host, "ca")
    found.verify_directly_issued_by(authority)
    key = serialization.load_pem_private_key(host.read(f"{PKI}/{name}.key"), None)
    assert found.public_key() == key.public_key()
    now = datetime.datetime.now(datetime.timezone.utc)
    assert found.not_valid_before_utc < now < found.not_valid_after_utc
    modes = {n: host.path(f"{PKI}/{name}.{n}").stat().st_mode & 0o777 for n in ("crt", "key")}
    assert modes == {"crt": 0o644, "key": 0o600}


def quarantined_files(host: Host) -> dict[str, bytes]:
    """Original path → content of every file that was set aside."""
    found = {}
    for folder in sorted(host.path(f"{STATE}/quarantine").glob("*/*-files")):
        for path in folder.rglob("*"):
            if path.is_file():
                found[f"/{path.relative_to(folder)}"] = path.read_bytes()
    return found


def key_lines(pem: bytes) -> list[bytes]:
    return [line for line in pem.splitlines() if line and not line.startswith(b"-----")]


def require_unspoken(lab: Lab, keys: list[bytes], *ended: Ended) -> None:
    """No line of these keys is in what was said, nor in any file of ours but the kept originals."""
    lines = [line for key in keys for line in key_lines(key)]
    for said in ended:
        assert not [line for line in lines if line in (said.out + said.err).encode()]
    for host in lab.hosts.values():
        for path in files_below(host.path(STATE)):
            if "/quarantine/" not in str(path):
                content = path.read_bytes()
                assert not [line for line in lines if line in content], path


def files_below(top: Path) -> Iterator[Path]:
    return (path for path in top.rglob("*") if path.is_file() and "/bin/" not in str(path))


def reissue(host: Host, name: str, address: str) -> None:
    """Replace a certificate by one of the same CA for another address, as after a renumbering."""
    was = certificate(host, name)
    key = serialization.load_pem_private_key(host.read(f"{PKI}/ca.key"), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    wrong = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = x509.CertificateBuilder(
        was.issuer, was.subject, was.public_key(), x509.random_serial_number(),
        was.not_valid_before_utc, was.not_valid_after_utc,
    )  # fmt: skip
    for extension in was.extensions:
        is_names = isinstance(extension.value, x509.SubjectAlternativeName)
        builder = builder.add_extension(wrong if is_names else extension.value, extension.critical)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    host.write(f"{PKI}/{name}.crt", pem, 0o644)


def test_a_running_member_gets_new_certificates_without_a_restart(lab: Lab) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    wanted = names_in(certificate(host, "server"))
    good_key = host.read(f"{PKI}/server.key")
    let_expire(host, "server")
    reissue(host, "peer", "192.0.2.9")
    expired, running = host.read(f"{PKI}/server.crt"), host.etcd_pids()
    wait_for_diagnosis(lambda d: d["target"] == "master-1", "the certificates to be seen")
    ended = rescue("master-1", through="master-0").expect(OK)
    assert ended.result["recipe"] == "renew-certificates"
    assert host.etcd_pids() == running
    for name in ("server", "peer"):
        require_good(host, name)
        assert wanted <= names_in(certificate(host, name))
    kept = quarantined_files(host)
    assert kept[f"{PKI}/server.crt"] == expired
    assert kept[f"{PKI}/server.key"] == good_key
    assert host.read(f"{PKI}/server.key") != good_key
    require_one_cluster(lab, THREE, keys)
    assert ids(lab, "master-0") == before
    new = [host.read(f"{PKI}/{name}.key") for name in ("server", "peer", "ca")]
    require_unspoken(lab, new, ended)
    assert "nothing to do" in rescue("master-1", through="master-0").expect(OK).err
    # Before their end, by the operator's word: all of them, still without a restart.
    serial = certificate(host, "healthcheck-client").serial_number
    fab("renew-certificates", "master-1", "--yes", hosts="master-0").expect(OK)
    assert certificate(host, "healthcheck-client").serial_number != serial
    for name in LEAVES:
        require_good(host, name)
    assert host.etcd_pids() == running
    require_one_cluster(lab, THREE, keys)


@pytest.mark.reliability(
    "Secrets",
    "a CA's key goes from host to host, and is in no output, journal or file of ours on the way",
)
def test_a_host_that_lost_its_certificates_and_its_ca_comes_back(lab: Lab) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-2"]
    authority = host.read(f"{PKI}/ca.key")
    for name in ("ca.crt", "ca.key", "server.crt", "server.key", "peer.key"):
        host.path(f"{PKI}/{name}").unlink()
    host.stop_etcd_kill9()
    wait_for_diagnosis(lambda d: d["target"] == "master-2", "the missing files to be seen")
    check_taken_back(host)
    ended = rescue("master-2", through="master-0").expect(OK)
    for name in LEAVES:
        require_good(host, name)
    assert host.read(f"{PKI}/ca.key") == authority
    assert host.path(f"{PKI}/ca.key").stat().st_mode & 0o777 == 0o600
    require_one_cluster(lab, THREE, keys)
    assert ids(lab, "master-0") == before
    require_unspoken(lab, [authority, host.read(f"{PKI}/server.key")], ended, fab("journal"))
    steps = fab("journal", ended.result["plan"][:12]).expect(OK)
    require_unspoken(lab, [authority], steps)
    assert {row["host"] for row in steps.result} >= {"master-2"}


def check_taken_back(host: Host) -> None:
    """A run that dies with the new files in place is taken back, byte for byte."""
    before = tree(host, "/etc/kubernetes")
    cut = start_fab("rescue-node", "master-2", "--yes")
    cut.wait_for(r"ok master-2: issue certificates")
    cut.kill()
    assert host.path(f"{PKI}/ca.key").exists()
    fab("rollback", "--yes").expect(OK)
    after = tree(host, "/etc/kubernetes")
    assert after == before


def test_all_certificates_ended_in_the_same_night(lab: Lab) -> None:
    """kubeadm makes them for one year, on all hosts at once; etcd was restarted since."""
    keys, before = seed_keys(lab), ids(lab, "master-0")
    for host in lab.hosts.values():
        for name in ("server", "peer", "healthcheck-client"):
            let_expire(host, name)
    for host in lab.hosts.values():
        host.stop_etcd_kill9()
    wait_until(lambda: not any(map(lab.is_healthy, lab.hosts)), 15, "the end of the quorum")

    def is_seen(diagnosis: dict[str, object]) -> bool:
        return diagnosis["recipe"] == "renew-certificates"

    seen = wait_for_diagnosis(is_seen, "the ended certificates", hosts=",".join(THREE))
    assert any(refusal["recipe"] == "reseed" for refusal in seen["refusals"])
    assert "fab rescue-node master-0" in fab("rescue-quorum", "--yes").expect(REFUSED).err
    ended = rescue("master-0", through=",".join(THREE)).expect(OK)
    assert (ended.result["serving"], ended.result["voters"]) == (3, 3)
    for host in lab.hosts.values():
        for name in LEAVES:
            require_good(host, name)
    require_one_cluster(lab, THREE, keys)
    assert ids(lab, "master-0") == before


def test_no_certificate_is_judged_by_a_clock_that_is_wrong(lab: Lab) -> None:
    """90 s ahead on one host: named for that host, and neither judged nor made until it is set."""
    host, keys = lab.hosts["master-2"], seed_keys(lab)
    let_expire(host, "server")
    set_clock(host, 90)
    here, there = time.time(), int(host.run(["date", "+%s"]).stdout)
    assert 85 < there - here < 95  # it is so for any program of that host
    files = tree(host, "/etc/kubernetes")
    said = fab("diagnose").expect(OK).result
    (warning,) = [text for text in said["warnings"] if "the clock of" in text]
    assert re.match(r"the clock of master-2 is (8\d|90)\.\d s ahead of that of master-", warning)
    assert "timedatectl" in warning
    assert "no certificate is judged or made until then" in warning
    shown = fab("survey", output="table").expect(OK).out
    assert re.findall(r"its clock is (?:8\d|90)\.\d s ahead of this one's", shown)
    assert shown.count("its clock is") == 1
    for task in ("rescue-node", "renew-certificates"):
        refused = fab(task, "master-2", "--yes").expect(REFUSED)
        assert "the clock of master-2 is" in refused.err
        assert "set the clock of master-2 (chronyc tracking, timedatectl)" in refused.err
    assert tree(host, "/etc/kubernetes") == files
    put_clock_right(host)
    ended = rescue("master-2", through="master-0").expect(OK)
    assert ended.result["recipe"] == "renew-certificates"
    assert not [text for text in ended.result["warnings"] if "clock" in text]
    require_good(host, "server")
    require_one_cluster(lab, THREE, keys)


@pytest.mark.kubeadm
def test_kubeadm_itself_makes_them_where_it_is(lab: Lab) -> None:
    keys, host = seed_keys(lab), lab.hosts["master-1"]
    wanted = names_in(certificate(host, "server"))
    host.write("/usr/local/bin/kubeadm", Path(kubeadm_program()).read_bytes(), 0o755)
    let_expire(host, "server")
    host.path(f"{PKI}/healthcheck-client.crt").unlink()
    host.path(f"{PKI}/healthcheck-client.key").unlink()
    wait_for_diagnosis(lambda d: d["target"] == "master-1", "the certificates to be seen")
    ended = rescue("master-1", through="master-0").expect(OK)
    records = fab("journal", ended.result["plan"][:12]).expect(OK).result
    by = [r["data"].get("by", "") for r in records if r["kind"] == "done"]
    assert any(text.startswith("kubeadm v") for text in by)
    for name in LEAVES:
        require_good(host, name)
    assert names_in(certificate(host, "server")) == wanted
    require_unspoken(lab, [host.read(f"{PKI}/ca.key")], ended)
    require_one_cluster(lab, THREE, keys)
