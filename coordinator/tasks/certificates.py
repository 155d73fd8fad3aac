"""Tasks of upkeep: renew-certificates, clear-alarm."""

from __future__ import annotations

import time

from agent.errors import UsageError
from agent.model.plan import Plan
from agent.recipes.clear_alarm import KEEP
from agent.recipes.clear_alarm import clear_alarm as plan_clear_alarm
from agent.recipes.renew_certificates import renew_certificates as plan_renewal
from coordinator.tasks.choosing import refuse_open_plans
from coordinator.tasks.common import Looked, Options, looking
from coordinator.tasks.doing import carry_out


def renew_certificates(options: Options, host: str = "") -> None:
    """Make etcd's certificates on a host anew; without one, those that will not do, everywhere."""
    with looking(options, host) as looked:
        refuse_open_plans(looked)
        plan = _renewal(looked, host)
        if plan is None:
            looked.progress.say("nothing to do: every certificate of etcd will do")
            return
        carry_out(looked, plan, options)


def _renewal(looked: Looked, host: str) -> Plan | None:
    now = time.time()
    if host:
        target = looked.cluster.verdict(host).host
        return plan_renewal(looked.cluster, [target], now, everything=True)
    bad = [m.host for m in looked.diagnosis.members if m.certificates is not None]
    return plan_renewal(looked.cluster, bad, now) if bad else None


def clear_alarm(options: Options, keep: str = "") -> None:
    """Make space and take the alarm NOSPACE back; CORRUPT only of a member that is gone."""
    if keep and not keep.isdecimal():
        raise UsageError(f"--keep {keep}: not a number of revisions", f"the default is {KEEP}")
    with looking(options) as looked:
        refuse_open_plans(looked)
        plan = plan_clear_alarm(looked.cluster, time.time(), int(keep) if keep else KEEP)
        carry_out(looked, plan, options)
