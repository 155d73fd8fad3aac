"""A plan that was told to goes on by itself: after the operator's machine died, after a reboot."""

from __future__ import annotations

import os
import re

import pytest

from tests.lab.evidence import power_off, require_one_cluster, seed_keys
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, PAUSED, Running, fab, rescue_quorum
from tests.lab.paths import REPO_DIR

UNITS = "/etc/systemd/system"
TEMPLATE = f"{UNITS}/rescue-agent@.service"
PINNED = "/var/lib/etcd-rescue/agent/pinned"


def armed(host: Host) -> list[str]:
    """The plans that systemd would go on with on this host."""
    wants = host.path(f"{UNITS}/multi-user.target.wants")
    return [p.name for p in wants.iterdir() if p.name.startswith("rescue-agent@")]


def without_patience(host: Host) -> None:
    """The unit waits for a second, not for as long as a coordinator tries to come back."""
    folder = f"{TEMPLATE}.d"
    host.run(["mkdir", "-p", folder])
    host.write(f"{folder}/soon.conf", "[Service]\nEnvironment=ETCD_RESCUE_GRACE=1\n", 0o644)


def exposure(host: Host, unit: str) -> float:
    said = host.run(["systemd-analyze", "security", "--no-pager", unit]).stdout
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


def interrupt(run: Running, host: Host, how: str) -> None:
    """Right after etcd's definition was parked the operator's machine dies, or host and all."""
    run.wait_for(r"ok master-0: park definition")
    if how == "reboot":
        host.power_cut()
    run.kill()
    if how == "reboot":
        host.boot()


HOWS = ["reboot", "line"] if os.environ.get("LAB_REACH") == "all" else ["reboot"]
"""`make lab-reach` has both, and the end of the story; every `make lab-test` the harder one."""


@pytest.mark.parametrize("how", HOWS)
def test_it_goes_on_as_far_as_this_host_alone_can(lab: Lab, how: str) -> None:
    keys, host = seed_keys(lab), lab.hosts["master-0"]
    without_patience(host)
    power_off(lab, "master-1", "master-2")
    run = rescue_quorum("master-1", "master-2", more=["--unattended"])
    interrupt(run, host, how)

    wait_until(lambda: lab.is_healthy(host), 90, "etcd to serve again, with nobody's help")
    (unit,) = armed(host)
    assert lab.get_all("master-0") == keys
    state = ["systemctl", "show", "-P", "Result", "-P", "ActiveState", unit]
    wait_until(lambda: "inactive" in host.run(state).stdout, 30, "the unit's end")
    assert host.run(state).stdout.split() == ["success", "inactive"]
    page = (REPO_DIR / "docs/unattended.md").read_text()
    bound = re.search(r"`systemd-analyze security`: at most ([\d.]+)", page)
    assert bound is not None
    assert exposure(host, unit) <= float(bound[1])

    # An operator who goes on, and ends in good order, has the plan in his own hand again.
    (facts,) = {j["plan"]: j for j in fab("journal").expect(OK).result}.values()
    assert facts["state"] == "open"
    fab("resume").expect(PAUSED)
    assert armed(host) == []
    assert not host.path(TEMPLATE).exists()
    if len(HOWS) == 1:
        return
    for name in ("master-1", "master-2"):
        lab.hosts[name].boot()
    fab("resume").expect(OK)
    require_one_cluster(lab, list(lab.hosts), keys)
    for each in lab.hosts.values():
        assert armed(each) == []
        assert not each.path(TEMPLATE).exists()
        assert not each.path(PINNED).exists()
