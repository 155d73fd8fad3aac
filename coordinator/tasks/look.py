"""Tasks that only look: survey, diagnose, journal."""

from __future__ import annotations

from typing import Any

from agent.errors import UsageError
from coordinator import report, tasks
from coordinator.tasks import carried
from coordinator.tasks.common import Options, looking
from coordinator.tasks.open_plans import is_of_dcos


def survey(options: Options) -> None:
    """Show what is on every host."""
    with looking(options, blind=True) as looked:
        seen, _verdict = carried.filled_in(looked, options.lost)
        report.emit(seen, options.output, report.survey_table)


def diagnose(options: Options) -> None:
    """Show the state of every member and of the cluster, and what fits."""
    with looking(options, blind=True) as looked:
        _seen, verdict = carried.filled_in(looked, options.lost)
        report.emit(verdict, options.output, report.diagnosis_table)


def journal(options: Options, plan_id: str = "") -> None:
    """List the plans in all hosts' journals, or show the records of one."""
    if is_of_dcos(options, plan_id):
        ours = tasks.dcos.journal_rows(plan_id)
        report.emit(
            ours, options.output, report.records_table if plan_id else report.journals_table
        )
        return
    with looking(options, blind=True) as looked:
        reached = [o.host for o in looked.observations if o.survey]
        rows: list[dict[str, Any]] = []
        for host in reached:
            args = {"plan": plan_id} if plan_id else {}
            try:
                rows += [{"host": host, **r} for r in looked.fleet.call(host, "journal", args)]
            except UsageError:
                continue  # this host took no part in that plan
        rows += carried.journal_rows(plan_id, looked)
        if plan_id and reached and not rows:
            raise UsageError(f"no host knows a plan {plan_id!r}", next="fab journal")
        rows.sort(key=lambda row: float(row["time" if plan_id else "updated"]))
        report.emit(
            rows, options.output, report.records_table if plan_id else report.journals_table
        )
