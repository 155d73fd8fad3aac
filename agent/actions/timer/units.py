"""The text of the units: the snapshot service and its timer; and whose a unit file is.

The first line of a file says that it is ours, and the hash of the rest: what somebody changed since
is neither replaced nor removed. To change one: options of `fab install-timer`, or a drop-in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from agent.actions.timer.program import Program
from agent.host import STATE_DIR
from agent.model.schedule import Schedule, command_words

UNIT_DIR = "/etc/systemd/system"
SERVICE, TIMER = "etcd-rescue-snapshot.service", "etcd-rescue-snapshot.timer"
_MARK = "# Made by etcd-rescue; not to be edited. sha256 of all lines below: "

_SERVICE = """\
[Unit]
Description=Verified snapshot of this host's etcd member
Documentation=https://etcd.io/docs/latest/op-guide/recovery/
After=network.target local-fs.target
RequiresMountsFor={mounts}

[Service]
Type=oneshot
ExecStart={command}
{environment}\
TimeoutStartSec=6h
# 7: a rescue is at work; the next run takes one.
SuccessExitStatus=7
# It gives way to etcd, which waits for the same disk.
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
CPUWeight=20
IOWeight=20
OOMScoreAdjust=500
{hardening}\
ReadWritePaths={writable}
{addresses}"""

HARDENING = """\
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
# Root, and of its powers this one alone: certificates and keys may belong to etcd's own user.
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""

_TIMER = """\
[Unit]
Description=Verified snapshots of this host's etcd member

[Timer]
OnCalendar={calendar}
# A run that was missed while the host was off is made up for.
Persistent=true
RandomizedDelaySec={delay}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def render(schedule: Schedule, program: Program, addresses: Sequence[str]) -> dict[str, str]:
    """File name → text of both units.

    addresses: IP addresses at which this host's etcd answers; none: it may speak to any.
    """
    words = " ".join([*program.argv, *command_words(schedule)])
    writable = [STATE_DIR, *([schedule.metrics] if schedule.metrics else [])]
    environment = "".join(f"Environment={k}={v}\n" for k, v in sorted(program.environment.items()))
    allowed = ["localhost", *sorted(addresses)]
    service = _SERVICE.format(
        mounts=" ".join(writable),
        command=words,
        environment=environment,
        hardening=HARDENING,
        writable=" ".join(writable),
        addresses=f"IPAddressDeny=any\nIPAddressAllow={' '.join(allowed)}\n" if addresses else "",
    )
    timer = _TIMER.format(calendar=schedule.calendar, delay=schedule.delay)
    return {SERVICE: marked(service), TIMER: marked(timer)}


def marked(text: str) -> str:
    """The text with the line ahead that makes it ours."""
    return f"{_MARK}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def body(text: str) -> str:
    """A file of ours without that line."""
    return text.partition("\n")[2]


def whose(text: str) -> str:
    """ours, edited (it was ours), or foreign."""
    first, _newline, rest = text.partition("\n")
    if not first.startswith(_MARK):
        return "foreign"
    return "ours" if marked(rest) == text else "edited"


def metrics_of(service: str) -> str:
    """The metrics directory that a service of ours names; empty for none."""
    for line in service.splitlines():
        if line.startswith("ExecStart="):
            for word in line.split():
                if word.startswith("--metrics="):
                    return word.partition("=")[2]
    return ""
