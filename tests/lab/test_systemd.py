"""etcd under systemd: units that are parked over a boot, disabled, masked or missing."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509

from tests.lab import units as units_of_lab
from tests.lab.console import act
from tests.lab.evidence import require_one_cluster, seed_keys, tree
from tests.lab.faults import ids, rescue
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, REFUSED, fab

MakeLab = Callable[..., Lab]
THREE = ["master-0", "master-1", "master-2"]
CONF = "drop-in,etcd.env,default"


def state(host: Host, what: str) -> str:
    """What systemctl says of etcd's unit."""
    return host.run(["systemctl", what, "etcd"], check=False).stdout.strip()


def stop(host: Host, *words: str) -> None:
    host.run(["systemctl", *words, "etcd"])
    wait_until(lambda: not host.etcd_pids(), 20, f"etcd's end on {host.name}")


def subject(host: Host, path: str) -> tuple[str, int]:
    """(subject, serial number) of a certificate."""
    found = x509.load_pem_x509_certificate(host.read(path))
    return found.subject.rfc4514_string(), found.serial_number


def test_the_cases_of_a_unit(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=3, layout="systemd", conf=CONF)
    keys, before = seed_keys(lab), ids(lab, "master-0")
    fab("diagnose").expect(OK)

    # Parked, it stays stopped over a boot, and whoever starts it; put back, it is as it was.
    host = lab.hosts["master-1"]
    units = {path: tree(host, path) for path in ("/etc/systemd/system", "/usr/lib/systemd/system")}
    act(host, "park-definition")
    act(host, "stop-etcd")
    host.power_cut()
    host.boot()
    assert host.run(["systemctl", "start", "etcd"], check=False).returncode != 0
    assert not host.etcd_pids()
    act(host, "unpark-definition")
    lab.wait_healthy(["master-1"])
    assert {path: tree(host, path) for path in units} == units

    # Disabled: it is started, and left disabled.
    host = lab.hosts["master-2"]
    stop(host, "disable", "--now")
    rescue("master-2").expect(OK)
    assert state(host, "is-enabled") == "disabled"

    # Masked by somebody: that is the operator's word.
    host.run(["systemctl", "mask", "--now", "etcd"])
    wait_until(lambda: not host.etcd_pids(), 20, "etcd's end")
    assert "systemctl unmask" in rescue("master-2").expect(REFUSED).err
    host.run(["systemctl", "unmask", "etcd"])
    rescue("master-2").expect(OK)

    # A key that is lost is made anew for the user that etcd runs as.
    key = "/etc/etcd/server.key"
    host.run(["rm", key])
    host.run(["systemctl", "restart", "etcd"], check=False)
    wait_until(lambda: not host.etcd_pids(), 20, "etcd's end")
    rescue("master-2").expect(OK)
    made = host.path(key).stat()
    assert (made.st_uid, made.st_mode & 0o777) == (units_of_lab.ETCD_UID, 0o600)

    # kubespray's are renewed under their own names, and say the same of whom they are for.
    folder, host = "/etc/ssl/etcd/ssl", lab.hosts["master-1"]
    old = {n: subject(host, f"{folder}/{n}") for n in ("admin-master-1.pem", "member-master-1.pem")}
    fab("renew-certificates", "master-1", "--yes").expect(OK)
    new = {n: subject(host, f"{folder}/{n}") for n in old}
    assert {n: name for n, (name, _serial) in new.items()} == {n: o[0] for n, o in old.items()}
    assert not {serial for _, serial in new.values()} & {serial for _, serial in old.values()}
    lab.wait_healthy(["master-1"])

    # Missing: nothing says how its etcd is meant to run.
    host = lab.hosts["master-2"]
    stop(host, "stop")
    unit = host.path("/usr/lib/systemd/system/etcd.service")
    text = unit.read_bytes()
    unit.unlink()
    host.run(["systemctl", "daemon-reload"])
    missing = rescue("master-2").expect(REFUSED).err
    assert "no unit etcd.service" in missing
    unit.write_bytes(text)
    host.run(["systemctl", "daemon-reload"])
    rescue("master-2").expect(OK)
    require_one_cluster(lab, THREE, keys)
    assert ids(lab, "master-0") == before
