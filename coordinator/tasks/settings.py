"""What every host's etcd will run with, and the file and line that each value comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.errors import UsageError
from agent.model.facts import EtcdConfig, Observation
from coordinator import report
from coordinator.tasks.common import Options, looking

Row = dict[str, Any]


def settings(options: Options, host: str) -> None:
    """Show the merged view of one host, or of all. Raises UsageError for a host not known."""
    with looking(options, blind=True) as looked:
        rows = settings_of(looked.observations)
        known = [row["host"] for row in rows]
        if host and host not in known:
            raise UsageError(
                f"no host {host!r} whose etcd definition can be read",
                f"known: {', '.join(known) or 'none'}",
                "fab survey",
            )
        chosen = [row for row in rows if not host or row["host"] == host]
        report.emit(chosen, options.output, report.settings_table)


def settings_of(observations: Sequence[Observation]) -> list[Row]:
    """One row per host with a readable definition, in place or parked."""
    return [
        _row(seen.host, config, seen.survey.config is None)
        for seen in observations
        if seen.survey is not None
        for config in [seen.survey.config or seen.survey.parked_config]
        if config is not None
    ]


def _row(host: str, config: EtcdConfig, is_parked: bool) -> Row:
    found = [
        {"flag": flag, "value": value, "from": config.sources.get(flag, config.definition)}
        for flag, value in sorted(config.flags.items())
    ]
    return {
        "host": host,
        "definition": config.definition,
        "is_parked": is_parked,
        "files": list(config.files) or [config.definition],
        "settings": found,
        "problems": list(config.problems),
    }
