"""What a plan still owes to an inventory on this machine, where its run was cut at the very end."""

from __future__ import annotations

from coordinator import inventory_edit
from coordinator.tasks.common import Looked


def finish_inventories(looked: Looked) -> bool:
    """Do the edits of plans that are complete on the hosts; say whether there were any.

    Those of a plan that was taken back are dropped.
    """
    found = False
    for plan in inventory_edit.all_pending():
        states = {
            facts.state
            for observation in looked.observations
            for facts in (observation.survey.journals if observation.survey else ())
            if facts.plan == plan
        }
        if "complete" in states and "open" not in states:
            inventory_edit.carry_out(plan, looked.progress.say)
            found = True
        elif "rolled-back" in states and "open" not in states:
            inventory_edit.drop(plan)
    return found
