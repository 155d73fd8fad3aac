"""Opens the way onto a host that its spec names."""

from __future__ import annotations

from coordinator.connection import Access
from coordinator.hosts import HostSpec
from coordinator.transports.line import Line
from coordinator.transports.local import LocalLine
from coordinator.transports.pod import PodLine
from coordinator.transports.ssh import SshLine


def open_line(spec: HostSpec, access: Access) -> Line:
    """The line to a host. Raises Unreachable, Refused; see each transport for why."""
    if spec.transport == "local":
        return LocalLine()
    if spec.transport == "oc-debug":
        return PodLine(access.pods, spec)
    return SshLine(spec, access)
