"""Actions on the host's schedule: the timer of snapshots."""

from __future__ import annotations

from agent.model.catalog.spec import ActionSpec

SPECS = (
    ActionSpec(
        "install_timer",
        "put the snapshot timer in place, and start it",
        "systemd runs the host, and no unit of that name is anybody else's or was edited",
        "take it away again, or put back the one that was there",
    ),
    ActionSpec(
        "remove_timer",
        "stop the snapshot timer and take it away; the snapshots stay",
        "the units are as they were put there",
        "put it back",
    ),
)
