"""What the steps of a DC/OS plan do, in words; none of them can be taken back by us."""

from __future__ import annotations

from agent.model.catalog.spec import ActionSpec

_NO_UNDO = "none"

SPECS = (
    ActionSpec("dcos_snapshot", "save etcd's key space, fetch it here, verify it",
               "the pod's etcd answers", "the file here stays; the task's own copy is taken away",
               effects=False),
    ActionSpec("dcos_backup", "dcos kubernetes backup, into the bucket",
               "the quorum holds", "the backup stays", effects=False),
    ActionSpec("dcos_watch", "wait until every member serves",
               "none", _NO_UNDO, effects=False),
    ActionSpec("dcos_replace", "dcos kubernetes pod replace: the pod starts empty elsewhere",
               "the quorum holds without the pod, and the pod does not serve",
               _NO_UNDO, final=True),
    ActionSpec("dcos_scale_up", "dcos kubernetes update: high_availability=true",
               "the only member serves", "none: it cannot be switched off again", final=True),
    ActionSpec("dcos_uninstall", "dcos package uninstall: the service and its tasks go",
               "nothing is stored, or the quorum is gone", _NO_UNDO, final=True),
    ActionSpec("dcos_install", "dcos package install, with the options of before",
               "the service is not there", "dcos package uninstall"),
    ActionSpec("dcos_restore", "dcos kubernetes restore, from the bucket",
               "the quorum is gone for good", _NO_UNDO, final=True),
)  # fmt: skip
CATALOG = {spec.name: spec for spec in SPECS}
