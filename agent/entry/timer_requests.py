"""What a coordinator asks of a host's snapshot timer: how it stands, and to take one now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from agent.errors import RescueError, StepFailed
from agent.host import Host
from agent.model.codec import from_plain, to_plain
from agent.model.schedule import TimerStatus

Say = Callable[[str], None]
_NOTHING = ("", "0", "n/a")


def timer_status(host: Host, args: dict[str, Any], say: Say) -> Any:
    """How the timer stands: {"schedule": arguments of install_timer, or absent} → TimerStatus."""
    return to_plain(status_of(host, args.get("schedule")))


def status_of(host: Host, schedule: Optional[Any] = None) -> TimerStatus:
    """See timer_status. schedule: as the arguments of install_timer, to compare with."""
    from agent.actions.timer.unit_files import read_units, show
    from agent.actions.timer.units import SERVICE, TIMER, whose
    from agent.snapshot.scheduled import SCHEDULED, holdings

    found = read_units(host, (SERVICE, TIMER))
    kinds = {"absent" if text is None else whose(text) for text in found.values()}
    units = next(k for k in ("foreign", "edited", "absent", "ours") if k in kinds)
    timer = show(host, TIMER, "ActiveState", "NextElapseUSecRealtime", "LastTriggerUSec")
    service = show(host, SERVICE, "ActiveState", "Result")
    there = holdings(host)
    newest = there.sets[0] if there.sets else None
    current, problem = _compare(host, found, schedule) if schedule is not None else (False, "")
    last = _time(timer.get("LastTriggerUSec", ""))
    return TimerStatus(
        host=host.hostname(),
        units=units,
        current=current,
        active=timer.get("ActiveState") == "active",
        running=service.get("ActiveState") == "activating",
        next=_time(timer.get("NextElapseUSecRealtime", "")),
        last=last,
        last_result=service.get("Result", "") if units != "absent" else "",
        directory=SCHEDULED,
        kept=len(there.sets),
        bytes=sum(each.size for each in there.sets),
        newest=newest.name if newest else "",
        taken=newest.time if newest else 0.0,
        unknown=there.unknown,
        problem=problem,
    )


def _time(text: str) -> str:
    return "" if text in _NOTHING else text


def _compare(host: Host, found: dict[str, Optional[str]], schedule: Any) -> tuple[bool, str]:
    """(whether the units are what the schedule would put there, why that cannot be told)."""
    from agent.actions.timer.install import USE, TimerArgs, schedule_of, wanted_units
    from agent.actions.timer.program import own_program

    wanted = schedule_of(from_plain(TimerArgs, schedule, "schedule"))
    try:
        program = own_program(host, USE)
    except RescueError as error:
        return False, error.seen
    return found == wanted_units(host, wanted, program) and host.exists(program.path), ""


def timer_run(host: Host, args: dict[str, Any], say: Say) -> Any:
    """Have the timer's service take one now, and wait for its end: {} → TimerStatus.

    Raises StepFailed with what systemd says where it did not take one.
    """
    from agent.actions.base import wait_for
    from agent.actions.timer.unit_files import show, systemctl
    from agent.actions.timer.units import SERVICE

    found = show(host, SERVICE, "InvocationID", "ActiveState")
    # One that is at work already is not started a second time: that one will do.
    before = "" if found.get("ActiveState") == "activating" else found.get("InvocationID", "")
    systemctl(host, "start", "--no-block", SERVICE)

    def probe() -> tuple[bool, str]:
        state = show(host, SERVICE, "ActiveState", "InvocationID")
        is_new = state.get("InvocationID", "") != before
        return is_new and state.get("ActiveState") in ("inactive", "failed"), "it is at work"

    wait_for(say, "the snapshot", probe, 6 * 3600.0)
    result = show(host, SERVICE, "Result", "ExecMainStatus")
    if (result.get("Result"), result.get("ExecMainStatus")) != ("success", "0"):
        raise StepFailed(
            f"{host.hostname()}: {SERVICE} took no snapshot: {result.get('Result')}, exit code "
            f"{result.get('ExecMainStatus')}",
            _last_words(host, SERVICE),
            f"on {host.hostname()}: journalctl -u {SERVICE}",
        )
    return timer_status(host, {}, say)


def _last_words(host: Host, unit: str) -> str:
    try:
        argv = ["journalctl", "--no-pager", "--output=cat", "--lines=12", f"--unit={unit}"]
        return host.run(argv, timeout=10).stdout.strip()[-800:]
    except RescueError:
        return ""


TIMER_REQUESTS = {f.__name__: f for f in (timer_status, timer_run)}
