"""OpenShift 3.11: files of a master's backup go back to where they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.model.plan import Plan, Promise
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster


def restore_master_files(
    cluster: Cluster, host: str, files: Sequence[Mapping[str, Any]], created: float
) -> Plan:
    """Plan the return of files to one host. files: arguments of place_master_file, in order."""
    count = f"{len(files)} file{'s' if len(files) != 1 else ''}"
    builder = PlanBuilder("restore-master-files", f"{host}: {count}", cluster.addresses)
    steps = [
        builder.step(host, "place_master_file", "as the backup has it; what is there is kept",
                     **dict(file))
        for file in files
    ]  # fmt: skip
    builder.stage(f"Put {count} back on {host}", steps)
    return builder.build(created, Promise(()))
