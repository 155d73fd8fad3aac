"""What befalls one member, and the wait until it shows: crash loops, wiped disks, certificates."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.lab.commands import CommandFailed
from tests.lab.host import Host, wait_until
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import REFUSED, Ended, fab

PASSING = re.compile("change needs|none serves|no healthy member|wait a minute")
"""In a refusal by what may be over in a moment: a member that starts, or stood still."""

PKI = "/etc/kubernetes/pki/etcd"
DATA = "/var/lib/etcd"


def _etcd_containers(host: Host) -> list[dict[str, Any]]:
    """Those of etcd, the newest first; none while containerd itself is starting after a boot."""
    label = "io.kubernetes.container.name=etcd"
    listed = host.run(["crictl", "ps", "-a", "--label", label, "-o", "json"], check=False)
    if listed.returncode != 0:
        assert "containerd.sock" in listed.stderr, listed.stderr
        return []
    found: list[dict[str, Any]] = json.loads(listed.stdout)["containers"]
    return found


def _started_again(container: dict[str, Any]) -> int:
    return int(container["annotations"].get("io.kubernetes.container.restartCount", "0"))


def has_ended(host: Host, times: int) -> bool:
    """Whether etcd's container was started again so often, and the last one has ended."""
    found = _etcd_containers(host)[:1]
    return any(_started_again(c) >= times and c["state"] == "CONTAINER_EXITED" for c in found)


def attempts(host: Host) -> int:
    """How often the kubelet has started etcd's container again."""
    return max(map(_started_again, _etcd_containers(host)), default=0)


def crash_loop(host: Host) -> None:
    """Destroy the write-ahead log, and wait until etcd has failed on it."""
    host.crash_etcd()
    wait_until(lambda: attempts(host) >= 2, 30, f"etcd on {host.name} to crash-loop")


def rescue(host: str, through: str = "", word: str = "--yes") -> Ended:
    """Rescue a node, without configuration beyond ssh unless `through` names another host.

    On a machine that stands still for seconds a healthy member may miss a survey; a refusal then
    says so, and the operator looks again, as it tells.
    """
    for _ in range(4):
        ended = fab("rescue-node", host, word, hosts=through)
        if ended.code != REFUSED or not PASSING.search(ended.err):
            break
    return ended


def wait_until_looping(host: Host) -> None:
    """Wait until a pod that was changed by hand has ended twice."""
    before = attempts(host)
    goal = 2 if before < 2 else before + 2
    wait_until(lambda: attempts(host) >= goal, 30, f"etcd on {host.name} to crash-loop")


def stop_kubelet_and_etcd(host: Host) -> None:
    """Nothing starts etcd any more, and none runs."""
    host.run(["systemctl", "stop", "kubelet"])
    host.stop_etcd_kill9()
    wait_until(lambda: not host.etcd_pids(), 10, f"etcd's end on {host.name}")


def edit_manifest(host: Host, old: str, new: str) -> str:
    """Replace a part of etcd's manifest; gives the whole text that was there."""
    text = host.read(MANIFEST).decode()
    assert old in text
    host.write(MANIFEST, text.replace(old, new), 0o600)
    return text


def take_away_definition(host: Host) -> str:
    """Move etcd's manifest out of the watched directory; gives its text, once etcd has ended."""
    text = host.read(MANIFEST).decode()
    host.path(MANIFEST).rename(host.path("/root/etcd.yaml"))
    wait_until(lambda: not host.etcd_pids(), 15, f"etcd's end on {host.name}")
    return text


def let_expire(host: Host, name: str) -> bytes:
    """Replace a certificate by one of the same CA that ran out yesterday; gives the good one."""
    place = f"{PKI}/{name}.crt"
    good = host.read(place)
    was = x509.load_pem_x509_certificate(good)
    now = datetime.datetime.now(datetime.timezone.utc)
    key = serialization.load_pem_private_key(host.read(f"{PKI}/ca.key"), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    builder = x509.CertificateBuilder(
        was.issuer,
        was.subject,
        was.public_key(),
        x509.random_serial_number(),
        now - datetime.timedelta(days=400),
        now - datetime.timedelta(days=1),
        list(was.extensions),
    )
    expired = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    host.write(place, expired, 0o644)
    return good


def wait_for_diagnosis(
    fits: Callable[[dict[str, Any]], bool], what: str, hosts: str = "master-0"
) -> dict[str, Any]:
    """Diagnose until what it says fits."""
    found: dict[str, Any] = {}

    def is_so() -> bool:
        found.update(fab("diagnose", hosts=hosts).expect(0).result)
        return fits(found)

    try:
        wait_until(is_so, 40, what)
    except TimeoutError as error:
        told = {key: found[key] for key in ("state", "target", "recipe", "warnings")}
        raise TimeoutError(f"{error}; the last diagnosis: {told}") from error
    return found


def verdict(diagnosis: dict[str, Any], host: str) -> dict[str, Any]:
    """The verdict on one host."""
    found: dict[str, Any] = next(m for m in diagnosis["members"] if m["host"] == host)
    return found


def add_learner(lab: Lab, through: str, peer_url: str) -> None:
    """Add a learner by hand."""
    _change(lab, through, "add", "new", "--learner", f"--peer-urls={peer_url}")


def remove_by_hand(lab: Lab, through: str, member: int) -> None:
    """Remove a member by its ID."""
    _change(lab, through, "remove", f"{member:x}")


def _change(lab: Lab, through: str, *words: str) -> None:
    """Change the membership, as soon as etcd takes it (members must be connected for 5 s)."""

    def is_changed() -> bool:
        try:
            lab.etcdctl(through, "member", *words)
        except CommandFailed as error:
            if not re.search("unhealthy|not ready|not enough started|timed out", str(error)):
                raise
            return False
        return True

    wait_until(is_changed, 20, f"etcd to take: member {' '.join(words)}")


def ids(lab: Lab, through: str) -> dict[str, int]:
    """Name -> ID of the members."""
    return {m.name: m.id for m in lab.members(through)}


def lead(lab: Lab, host: str) -> None:
    """Make a member the leader."""
    wanted = f"{ids(lab, host)[host]:x}"
    leader = int(lab.client(host).status()["leader"])
    name = next(name for name, member in ids(lab, host).items() if member == leader)
    if name != host:
        lab.etcdctl(name, "move-leader", wanted)
    wait_until(lambda: f"{int(lab.client(host).status()['leader']):x}" == wanted, 10, "the leader")
