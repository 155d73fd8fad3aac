"""Put the snapshot timer on a host, and take it off again."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlsplit

from agent.actions.base import Action, Context, Data, NoArgs
from agent.actions.timer.program import Program, own_program, pin, repinned, unpin
from agent.actions.timer.unit_files import (
    is_forgotten,
    read_units,
    remove_units,
    require_ours,
    require_systemd,
    show,
    systemctl,
    times_of,
    write_units,
)
from agent.actions.timer.units import SERVICE, TIMER, body, marked, metrics_of, render
from agent.errors import CommandFailed, PreconditionFailed, StepFailed, UsageError
from agent.host import STATE_DIR, Host
from agent.host.own_files import remove_file
from agent.model.schedule import Limits, Schedule, check_schedule
from agent.platforms import detect
from agent.snapshot.metrics import remove_metrics
from agent.survey.online import local_endpoints
from agent.survey.watched import find_parked, read_watched

USE = "timer"
_UNITS = (SERVICE, TIMER)
_STAMP = f"/var/lib/systemd/timers/stamp-{TIMER}"
_STOP_SECONDS = 120.0


@dataclass(frozen=True)
class TimerArgs:
    """A Schedule, flat; see there."""

    calendar: str = Schedule.calendar
    delay: int = Schedule.delay
    patience: int = Schedule.patience
    metrics: str = ""
    keep: int = Limits.keep
    keep_days: int = Limits.keep_days
    keep_bytes: int = Limits.keep_bytes
    min_free: int = Limits.min_free


def schedule_of(args: TimerArgs) -> Schedule:
    """The schedule that the arguments are. Raises UsageError where none could be kept."""
    limits = Limits(args.keep, args.keep_days, args.keep_bytes, args.min_free)
    found = Schedule(args.calendar, args.delay, args.patience, args.metrics, limits)
    check_schedule(found)
    return found


def wanted_units(host: Host, schedule: Schedule, program: Program) -> dict[str, str]:
    """File name → text of the units that this schedule needs on this host."""
    return render(schedule, program, _addresses(host))


def _addresses(host: Host) -> list[str]:
    """Where etcd answers on this host; none where that is told by name, or not at all."""
    config = read_watched(host, detect(host))[0]
    names = [urlsplit(url).hostname or "" for url in local_endpoints(config)] if config else []
    try:
        found = {str(ipaddress.ip_address(name)) for name in names}
    except ValueError:
        return []
    return sorted(a for a in found if not ipaddress.ip_address(a).is_loopback) or sorted(found)


class InstallTimer(Action[TimerArgs]):
    """Write service and timer, pin the agent that they run, and start the timer."""

    name = "install_timer"
    args_type = TimerArgs

    def check(self, ctx: Context, args: TimerArgs) -> None:
        host, schedule = ctx.host, _schedule(args)
        require_systemd(host)
        require_ours(host, _UNITS, "install-timer")
        _require_calendar(host, schedule.calendar)
        if schedule.metrics and not host.is_dir(schedule.metrics):
            raise PreconditionFailed(
                f"{host.hostname()}: {schedule.metrics}: no such directory",
                "metrics in a place that nobody reads would be missed when they are needed",
                f"mkdir -p {schedule.metrics}, and give it to node_exporter in "
                "--collector.textfile.directory; or leave --metrics away",
            )
        if read_watched(host, ctx.platform)[0] is None and not find_parked(host):
            raise PreconditionFailed(
                f"{host.hostname()}: no definition of etcd",
                "there would be nothing to take snapshots of",
                "fab survey",
            )
        own_program(host, USE)

    def prepare(self, ctx: Context, args: TimerArgs) -> Data:
        state = show(ctx.host, TIMER, "UnitFileState", "ActiveState")
        return {
            "before": read_units(ctx.host, _UNITS),
            "times": times_of(ctx.host, _UNITS),
            "enabled": state.get("UnitFileState") == "enabled",
            "active": state.get("ActiveState") == "active",
        }

    def is_done(self, ctx: Context, args: TimerArgs, undo: Optional[Data]) -> bool:
        program = own_program(ctx.host, USE)
        wanted = wanted_units(ctx.host, _schedule(args), program)
        is_there = ctx.host.exists(program.path)
        return is_there and read_units(ctx.host, _UNITS) == wanted and _runs(ctx.host)

    def act(self, ctx: Context, args: TimerArgs, undo: Data) -> Data:
        host, program = ctx.host, own_program(ctx.host, USE)
        pin(host, program)
        write_units(host, wanted_units(host, _schedule(args), program))
        systemctl(host, "enable", TIMER)
        systemctl(host, "restart", TIMER)  # also where it ran by another calendar
        unpin(host, USE, keep=program.path)
        return show(host, TIMER, "NextElapseUSecRealtime")

    def prove(self, ctx: Context, args: TimerArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(
                f"{ctx.host.hostname()}: {TIMER} does not wait for its time",
                f"systemd says: {show(ctx.host, TIMER, 'LoadState', 'ActiveState', 'Result')}",
                f"on that host: systemctl status {TIMER}; journalctl -u {TIMER}",
            )

    def undo(self, ctx: Context, args: TimerArgs, undo: Data) -> None:
        if None in undo["before"].values():
            take_off(ctx.host)
        put_back(ctx.host, undo, undo["enabled"], undo["active"])


def _schedule(args: TimerArgs) -> Schedule:
    """As schedule_of; what no schedule is, is a precondition's matter for a step."""
    try:
        return schedule_of(args)
    except UsageError as error:
        raise PreconditionFailed(error.seen, error.why, error.next) from None


def _require_calendar(host: Host, calendar: str) -> None:
    """Raise PreconditionFailed where systemd does not understand it; where it can be asked."""
    if not host.which("systemd-analyze"):
        return
    try:
        host.run(["systemd-analyze", "calendar", calendar], timeout=10)
    except CommandFailed as error:
        raise PreconditionFailed(
            f"{host.hostname()}: systemd does not understand the calendar {calendar!r}",
            error.seen.splitlines()[-1],
            "man 7 systemd.time; as in: daily, hourly, *-*-* 00/6:00:00",
        ) from None


def _runs(host: Host) -> bool:
    state = show(host, TIMER, "UnitFileState", "ActiveState")
    return state == {"UnitFileState": "enabled", "ActiveState": "active"}


class RemoveTimer(Action[NoArgs]):
    """Stop the timer and take away all that is ours but the snapshots."""

    name = "remove_timer"
    args_type = NoArgs

    def check(self, ctx: Context, args: NoArgs) -> None:
        require_systemd(ctx.host)
        require_ours(ctx.host, _UNITS, "remove-timer")

    def prepare(self, ctx: Context, args: NoArgs) -> Data:
        before, times = read_units(ctx.host, _UNITS), times_of(ctx.host, _UNITS)
        return {"before": before, "times": times, "active": _runs(ctx.host)}

    def is_done(self, ctx: Context, args: NoArgs, undo: Optional[Data]) -> bool:
        """The unit files go last: where they are gone, and systemd knows that, all is."""
        is_there = any(text is not None for text in read_units(ctx.host, _UNITS).values())
        return not is_there and is_forgotten(ctx.host, _UNITS)

    def act(self, ctx: Context, args: NoArgs, undo: Data) -> Data:
        return {"removed": take_off(ctx.host, undo["before"].get(SERVICE) or "")}

    def undo(self, ctx: Context, args: NoArgs, undo: Data) -> None:
        put_back(ctx.host, undo, undo["active"], undo["active"])


def take_off(host: Host, service: str = "") -> list[str]:
    """Stop timer and service, and remove everything of theirs but the snapshots.

    service: its unit's text, for where its metrics are.
    """
    systemctl(host, "disable", "--now", TIMER, ok=(0, 1, 5))
    systemctl(host, "stop", SERVICE, ok=(0, 1, 5), timeout=_STOP_SECONDS)
    if metrics_of(service):
        remove_metrics(host, metrics_of(service))
    remove_file(host, _STAMP)
    remove_file(host, f"{STATE_DIR}/snapshot.lock")
    unpin(host, USE)
    return remove_units(host, _UNITS)


def put_back(host: Host, undo: Data, enabled: bool, active: bool) -> None:
    """The unit files as they were, with the agent that runs now, and the timer as it was."""
    former = {name: text for name, text in undo["before"].items() if text is not None}
    if not former:
        return
    program = own_program(host, USE)
    pin(host, program)
    texts = {name: marked(repinned(body(text), program)) for name, text in former.items()}
    same = {name: since for name, since in undo.get("times", {}).items()
            if texts.get(name) == former.get(name)}  # fmt: skip
    write_units(host, texts, same)
    unpin(host, USE, keep=program.path)
    if enabled:
        systemctl(host, "enable", TIMER)
    if active:
        systemctl(host, "restart", TIMER)
