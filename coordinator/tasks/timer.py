"""Tasks for scheduled snapshots: install-timer, remove-timer, timer-status."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from agent.errors import Refused, RescueError, UsageError, plain
from agent.model.codec import from_plain
from agent.model.plan import Plan
from agent.model.schedule import Limits, Schedule, TimerStatus, check_schedule
from agent.recipes.timer import install_timer as plan_install
from agent.recipes.timer import remove_timer as plan_remove
from agent.recipes.timer import timer_args
from coordinator import report
from coordinator.channel import fan_out
from coordinator.console import Progress
from coordinator.fleet import Fleet
from coordinator.sequencer import Sequencer
from coordinator.tasks.choosing import refuse_open_plans
from coordinator.tasks.common import Looked, Options, looking
from coordinator.tasks.doing import carry_out

_RUN_SECONDS = 6 * 3600.0
_SIZE = re.compile(r"(\d{1,9})([KMGT]?)(?:i?B)?", re.I)
_SPAN = re.compile(r"(\d{1,6})(s|min|m|h|d|)")
_SPANS = {"s": 1, "": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}

Answers = Mapping[str, "TimerStatus | RescueError"]


def size_of(text: str, name: str) -> int:
    """20G, 512M, 1000 as bytes (powers of 1024). Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"--{name} {text!r} is no size", "as in: 20G, 512M")
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


def seconds_of(text: str, name: str) -> int:
    """15min, 2h, 90 as seconds. Raises UsageError."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise UsageError(f"--{name} {text!r} is no span of time", "as in: 15min, 2h, 90s")
    return int(match[1]) * _SPANS[match[2]]


def number_of(text: str, name: str) -> int:
    """A whole number. Raises UsageError."""
    if not text.isdecimal() or len(text) > 9:
        raise UsageError(f"--{name} {text!r} is not a whole number")
    return int(text)


def schedule_from(words: Mapping[str, str]) -> Schedule:
    """The schedule that the options of install-timer say. Raises UsageError."""
    limits = Limits(
        number_of(words["keep"], "keep"),
        number_of(words["keep_days"], "keep-days"),
        size_of(words["keep_bytes"], "keep-bytes"),
        size_of(words["min_free"], "min-free"),
    )
    delay = seconds_of(words["random_delay"], "random-delay")
    found = Schedule(words["every"], delay, metrics=words["metrics"], limits=limits)
    check_schedule(found)
    return found


def install_timer(options: Options, host: str, schedule: Schedule, first: bool) -> None:
    """Put the timer on a host, or on all; those that have it as it should be are left alone."""
    with looking(options, host) as looked:
        refuse_open_plans(looked)
        hosts = _targets(looked, host)
        asked = {"schedule": timer_args(schedule)}
        statuses = _ask(looked.fleet, hosts, asked)
        todo = [h for h, s in statuses.items() if not _stands(s)]
        if todo:
            plan = plan_install(looked.cluster, todo, schedule, time.time())
            carry_out(looked, plan, options, to_end=_to_end)
        else:
            looked.progress.say("nothing to do: the timer is there, by this very schedule")
        if not options.dry_run:
            if first:
                _take_first(looked, hosts)
            _tell(looked, _ask(looked.fleet, hosts, asked), options)


def remove_timer(options: Options, host: str) -> None:
    """Take the timer off a host, or off all; the snapshots stay."""
    with looking(options, host) as looked:
        refuse_open_plans(looked)
        hosts = _targets(looked, host)
        statuses = _ask(looked.fleet, hosts, {})
        todo = [h for h, s in statuses.items() if isinstance(s, RescueError) or not _is_absent(s)]
        if todo:
            plan = plan_remove(looked.cluster, todo, time.time())
            carry_out(looked, plan, options, to_end=_to_end)
        else:
            looked.progress.say("nothing to do: there is no timer")
        if not options.dry_run:
            _tell(looked, _ask(looked.fleet, hosts, {}), options)


def timer_status(options: Options, host: str) -> None:
    """Say how the timer stands on a host, or on all."""
    with looking(options, host) as looked:
        _tell(looked, _ask(looked.fleet, _targets(looked, host), {}), options)


def _stands(status: TimerStatus | RescueError) -> bool:
    return isinstance(status, TimerStatus) and status.current and status.active


def _is_absent(status: TimerStatus) -> bool:
    return status.units == "absent" and not status.active


def _targets(looked: Looked, host: str) -> list[str]:
    """The host named, or every host that was surveyed. Raises why the one named cannot be."""
    surveyed = [o.host for o in looked.observations if o.survey is not None]
    if not host:
        return surveyed
    if host not in surveyed:
        known = ", ".join(o.host for o in looked.observations)
        raise looked.fleet.errors.get(host) or UsageError(f"no host {host!r}", f"known: {known}")
    return [host]


def _ask(
    fleet: Fleet, hosts: Sequence[str], args: dict[str, Any]
) -> dict[str, TimerStatus | RescueError]:
    def one(host: str) -> TimerStatus:
        answer = fleet.call(host, "timer_status", args, 60)
        found: TimerStatus = from_plain(TimerStatus, answer, f"timer of {host}")
        return found

    return fan_out(hosts, one)


def _take_first(looked: Looked, hosts: Sequence[str]) -> None:
    """Have each host take one now, one host after the other: all at once would slow all of them."""
    for host in hosts:
        say = partial(_say, looked.progress, host)
        say("taking a first snapshot")
        looked.fleet.call(host, "timer_run", {}, _RUN_SECONDS, say)


def _say(progress: Progress, host: str, text: str) -> None:
    progress.say(f"{host}: {text}")


def _to_end(
    fleet: Fleet, sequencer: Sequencer, plan: Plan, progress: Progress, options: Options
) -> None:
    """Run what is left and close the plan; each step has proved what it did."""
    try:
        sequencer.run()
    except RescueError as error:
        is_closed = False
        with suppress(RescueError):
            is_closed = sequencer.give_up()
        if is_closed:
            progress.say("nothing was changed; the plan is closed")
        else:
            error.next = error.next or f"fab resume {plan.short_id}   (or: fab rollback)"
        raise
    sequencer.finish()


def _tell(looked: Looked, answers: Answers, options: Options) -> None:
    """Print how it stands; raise for hosts that could not be asked."""
    known = [s for s in answers.values() if isinstance(s, TimerStatus)]
    report.emit(known, options.output, _table)
    errors = [s for s in answers.values() if isinstance(s, RescueError)]
    absent = [o.host for o in looked.observations if o.survey is None]
    for error in errors:
        raise error
    if absent:
        first = looked.fleet.errors.get(absent[0])
        raise type(first or Refused(""))(
            f"not on {', '.join(absent)}: {first.seen if first else 'no answer'}",
            "what cannot be reached has the timer that it had",
            "the same command again when it can be",
        )


def _table(statuses: Sequence[TimerStatus]) -> None:
    for each in statuses:
        state = "waits" if each.active else "is off"
        state = {"absent": "is not there", "foreign": "is not ours"}.get(each.units, state)
        state += " (edited)" if each.units == "edited" else ""
        print(plain(f"{each.host}: the timer {state}{f'; next: {each.next}' if each.next else ''}"))
        if each.last:
            print(plain(f"    last run: {each.last}, {each.last_result}"))
        if each.newest:
            print(plain(f"    {each.kept} snapshots, {each.bytes / 2**20:.1f} MiB, the newest: "
                        f"{each.directory}/{each.newest}"))  # fmt: skip
        for name in each.unknown:
            print(plain(f"    {each.directory}/{name} is no whole snapshot set"))
        if each.problem:
            print(plain(f"    {each.problem}"))
