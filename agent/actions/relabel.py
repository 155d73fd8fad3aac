"""SELinux labels of what was put in place: as the host's policy says, where SELinux is on."""

from __future__ import annotations

from agent.actions.base import Context
from agent.errors import CommandFailed, StepFailed

_ON = "/sys/fs/selinux/enforce"


def is_selinux_on(ctx: Context) -> bool:
    """True if SELinux is enabled, enforcing or not: its file system is mounted."""
    return ctx.host.exists(_ON)


def relabel(ctx: Context, path: str) -> bool:
    """`restorecon -R` on a path; says whether there was anything to do.

    Raises StepFailed where SELinux is on and the labels cannot be set: what has a wrong one could
    not be read by who needs it.
    """
    if not is_selinux_on(ctx):
        return False
    try:
        ctx.host.run(["restorecon", "-R", path], timeout=300)
    except CommandFailed as error:
        raise StepFailed(
            f"{path} could not be labelled: {error.seen}",
            "SELinux is on here, and decides by labels who may read it",
            f"on this host: restorecon -R -v {path}; then: fab resume",
        ) from None
    return True
