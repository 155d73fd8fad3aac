"""The unit that carries a plan on without its operator: rescue-agent@PLAN.service.

One template for all plans, and one enabled instance for each that is to go on by itself.
"""

from __future__ import annotations

from agent.actions.timer.program import Program, own_program, pin, unpin
from agent.actions.timer.unit_files import (
    read_units,
    remove_units,
    require_ours,
    require_systemd,
    systemctl,
    write_units,
)
from agent.actions.timer.units import UNIT_DIR, marked, whose
from agent.host import Host
from agent.host.own_files import remove_file

TEMPLATE = "rescue-agent@.service"
USE = "plan"
_WANTS = f"{UNIT_DIR}/multi-user.target.wants"

_TEXT = """\
[Unit]
Description=Plan %i of etcd-rescue, carried on without its operator
After=network.target local-fs.target containerd.service crio.service kubelet.service

[Service]
ExecStart={command} unattended %i
{environment}\
# 6: it waits for another host; 7: somebody else has taken the plan over.
SuccessExitStatus=6 7
KillMode=mixed
# It stops and starts etcd, moves its data and runs the node's own tools: what is left to forbid.
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def render(program: Program) -> str:
    """The template's text."""
    environment = "".join(f"Environment={k}={v}\n" for k, v in sorted(program.environment.items()))
    return marked(_TEXT.format(command=" ".join(program.argv), environment=environment))


def instance(plan_id: str) -> str:
    """The unit of one plan."""
    return f"rescue-agent@{plan_id}.service"


def require_possible(host: Host) -> Program:
    """What the unit would start. Raises PreconditionFailed without systemd, and where such a unit
    is somebody else's.
    """  # noqa: D205
    require_systemd(host)
    require_ours(host, [TEMPLATE], "resume")
    return own_program(host, USE)


def arm(host: Host, plan_id: str) -> None:
    """Have systemd carry the plan on, now and after a reboot, whenever nobody else does.

    Raises as require_possible.
    """
    program = require_possible(host)
    text = render(program)
    pin(host, program)
    if read_units(host, [TEMPLATE])[TEMPLATE] != text:
        write_units(host, {TEMPLATE: text})
    systemctl(host, "enable", instance(plan_id))
    systemctl(host, "start", "--no-block", instance(plan_id))


def disarm(host: Host, plan_id: str) -> None:
    """Let the plan go on no more by itself; with the last one the template goes, and its agent.

    The instance that runs is left to notice that, and to end: it may be the one that says so.
    """
    link = f"{_WANTS}/{instance(plan_id)}"
    if not host.is_link(link):
        return
    remove_file(host, link)
    others = [n for n in host.listdir(_WANTS) if n.startswith("rescue-agent@")]
    text = read_units(host, [TEMPLATE])[TEMPLATE]
    if not others and text is not None and whose(text) == "ours":
        remove_units(host, [TEMPLATE])
        unpin(host, USE, unpacked=False)
    else:
        systemctl(host, "daemon-reload")


def is_armed(host: Host, plan_id: str) -> bool:
    """Whether the plan goes on by itself."""
    return host.is_link(f"{_WANTS}/{instance(plan_id)}")
