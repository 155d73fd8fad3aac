"""Plans for a service: stages of steps as a value, like those for hosts; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.errors import Refused, UsageError
from agent.model.plan import Plan, Promise, Stage, Step
from coordinator.dcos.catalog import CATALOG
from coordinator.dcos.diagnose import SUSPECT
from coordinator.dcos.model import PodState, PodVerdict, Remedy, Verdict, View
from coordinator.dcos.refusals import require

MOST_FAILURES = 3


@dataclass(frozen=True)
class Wish:
    """What the operator adds. Credentials are not among it: they are in no plan.

    bucket, region: where `dcos kubernetes backup` and `restore` keep backups. backup_name: which
    one to restore; empty: the CLI's default. options: of the package, for an install. timeout:
    seconds for each wait. folder: where snapshots go. again: a scale-up that failed twice, once
    more. no_snapshot: go on where one could be had. as_arguments: hand credentials to the CLI
    as arguments, which others on this machine can see, and not through a file.
    """

    bucket: str = ""
    region: str = ""
    backup_name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    timeout: int = 1200
    folder: str = "backups"
    again: bool = False
    no_snapshot: bool = False
    as_arguments: bool = False
    lost: tuple[str, ...] = ()


def make_plan(view: View, verdict: Verdict, remedy: Remedy, wish: Wish, now: float) -> Plan:
    """The plan of a remedy that fits. Raises Refused for one that does not, UsageError."""
    require(view, verdict, remedy, verdict.target)
    maker = {
        Remedy.WATCH: _watch, Remedy.REPLACE: _replace, Remedy.SCALE_UP: _scale_up,
        Remedy.RESTORE: _restore, Remedy.REBUILD: _rebuild, Remedy.REINSTALL: _reinstall,
    }[remedy]  # fmt: skip
    stages = _Stages(view.service)
    maker(stages, view, verdict, wish)
    target = f" {verdict.target}" if remedy is Remedy.REPLACE else ""
    voters = ("etcd-0", "etcd-1", "etcd-2") if remedy is Remedy.SCALE_UP else view.expected
    voters = ("etcd-0",) if _falls_back(verdict, remedy) else voters
    is_loss = remedy in (Remedy.RESTORE, Remedy.REBUILD)
    return Plan(
        1, f"dcos-{remedy.value}", f"{remedy.value}{target}: {verdict.why}", now,
        {view.service: view.cluster}, tuple(stages.found), Promise(voters),
        losses=("everything written since the backup",) if is_loss else (),
        declared_lost=wish.lost,
    ).with_id()  # fmt: skip


def _falls_back(verdict: Verdict, remedy: Remedy) -> bool:
    """A failed scale-up is rebuilt as it was before: with one member."""
    return remedy is Remedy.REBUILD and verdict.scenario == 2


class _Stages:
    def __init__(self, service: str) -> None:
        self.found: list[Stage] = []
        self._service, self._count = service, 0

    def add(self, title: str, *steps: tuple[str, str, dict[str, Any]]) -> None:
        """A stage of steps (action, reason, arguments)."""
        made = []
        for action, reason, args in steps:
            self._count += 1
            spec = CATALOG[action]
            made.append(Step(f"{self._count:02d}", self._service, action, args, reason,
                             spec.precondition, spec.undo, spec.final))  # fmt: skip
        self.found.append(Stage(title, tuple(made)))


def _watch(stages: _Stages, view: View, verdict: Verdict, wish: Wish) -> None:
    stages.add(
        "Watch, and do nothing",
        _wait(
            "DC/OS starts the task again on its own agent, with its data", len(view.expected), wish
        ),
    )


def _wait(
    reason: str, members: int, wish: Wish, changed: str = ""
) -> tuple[str, str, dict[str, Any]]:
    return "dcos_watch", reason, {"members": members, "timeout": wish.timeout, "changed": changed}


def _replace(stages: _Stages, view: View, verdict: Verdict, wish: Wish) -> None:
    pod = verdict.target
    stages.add("Save what the cluster holds", _snapshot(_serving(verdict), wish))
    stages.add(f"Replace {pod}, and no other", (
        "dcos_replace", f"{pod}: it starts empty on another agent and joins through the quorum",
        {"pod": pod}))  # fmt: skip
    stages.add("Wait for it", _wait(f"{pod} joins and catches up", len(view.expected), wish, pod))


def _scale_up(stages: _Stages, view: View, verdict: Verdict, wish: Wish) -> None:
    if verdict.failures >= MOST_FAILURES or (verdict.failures >= SUSPECT and not wish.again):
        raise Refused(
            f"the scale-up failed {verdict.failures} times in a row",
            "the DC/OS cluster itself is suspect, and each failure risks the data",
            "check agents, network and prerequisites, and call DC/OS support"
            + ("; then, once more: --again" if verdict.failures < MOST_FAILURES else ""),
        )
    bucket = _bucket(wish)
    stages.add(
        "Save what the cluster holds",
        _snapshot(_serving(verdict), wish),
        ("dcos_backup", "a scale-up that fails is taken back by a restore of this", bucket),
    )
    stages.add("Scale up to three members", (
        "dcos_scale_up", "high_availability=true; it cannot be switched off again",
        {"timeout": wish.timeout}))  # fmt: skip
    stages.add("Check", _wait("all three members serve", 3, wish))


def _restore(stages: _Stages, view: View, verdict: Verdict, wish: Wish) -> None:
    step = _from_bucket("the quorum is gone for good; the backup is the newest whole state", wish)
    _save_alone(stages, verdict, wish)
    stages.add("Restore", step)
    stages.add("Check", _wait("every member serves", len(view.expected), wish))


def _from_bucket(reason: str, wish: Wish, fresh: bool = False) -> tuple[str, str, dict[str, Any]]:
    """A restore. fresh: into the cluster that this plan has just installed, and no other."""
    more = {"backup_name": wish.backup_name, "timeout": wish.timeout, "fresh": fresh}
    return "dcos_restore", reason, {**_bucket(wish), **more}


def _rebuild(stages: _Stages, view: View, verdict: Verdict, wish: Wish) -> None:
    restore = _from_bucket("the backup is the newest whole state", wish, fresh=True)
    falls_back = _falls_back(verdict, Remedy.REBUILD)
    options = _options(wish, high_availability=False if falls_back else None)
    members = 1 if falls_back else len(view.expected)
    _save_alone(stages, verdict, wish)
    gone = ("dcos_uninstall", "its etcd has lost the quorum for good", {"timeout": wish.timeout})
    stages.add("Take the broken service away", gone)
    again = {"options": options, "version": view.version, "timeout": wish.timeout}
    install = ("dcos_install", "a restore needs a newly provisioned cluster", again)
    stages.add("Install it again", install, _wait("the new cluster serves", members, wish))
    stages.add("Restore", restore)
    told = "; then the scale-up can be tried again" if falls_back else ""
    stages.add("Check", _wait(f"it serves{told}", members, wish))


def _reinstall(stages: _Stages, view: View, verdict: Verdict, wish: Wish) -> None:
    stages.add(
        "Take the failed installation away",
        ("dcos_uninstall", "no key was ever stored in it", {"timeout": wish.timeout}),
    )
    stages.add(
        "Install it again",
        (
            "dcos_install",
            "all agents are healthy now",
            {"options": _options(wish), "version": view.version, "timeout": wish.timeout},
        ),
    )
    stages.add("Check", _wait("every member serves", len(view.expected), wish))


def _serving(verdict: Verdict) -> PodVerdict:
    return next(p for p in verdict.pods if p.state is PodState.SERVING)


def _save_alone(stages: _Stages, verdict: Verdict, wish: Wish) -> None:
    """Save the newest member that still answers alone: what it holds may be newer than a backup."""
    alone = [p for p in verdict.pods if p.state is PodState.NO_QUORUM]
    if alone and not wish.no_snapshot:
        best = max(alone, key=lambda pod: pod.revision)
        stages.add("Save what can still be read", _snapshot(best, wish))


def _snapshot(pod: PodVerdict, wish: Wish) -> tuple[str, str, dict[str, Any]]:
    reason = f"{pod.pod} answers; no change without a verified snapshot where one can be had"
    return "dcos_snapshot", reason, {"pod": pod.pod, "folder": wish.folder}


def _bucket(wish: Wish) -> dict[str, Any]:
    if not (wish.bucket and wish.region):
        raise UsageError(
            "no bucket is named",
            "`dcos kubernetes backup` and `restore` keep their backups in an AWS S3 bucket",
            "--bucket NAME --region REGION; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
            "environment",
        )
    return {"bucket": wish.bucket, "region": wish.region, "as_arguments": wish.as_arguments}


def _options(wish: Wish, high_availability: bool | None = None) -> dict[str, Any]:
    if not wish.options:
        raise UsageError(
            "the package's options are not known",
            "installing it again with others would make another cluster",
            "--options FILE, the JSON that the service was installed with",
        )
    options = dict(wish.options)
    if high_availability is not None:
        kubernetes = options.get("kubernetes")
        known = kubernetes if isinstance(kubernetes, dict) else {}
        options["kubernetes"] = {**known, "high_availability": high_availability}
    return options


# ---- a second check ------------------------------------------------------------------------------


def require_sound(plan: Plan, verdict: Verdict) -> None:
    """Refuse a plan that breaks a rule, whoever made it. Raises Refused."""
    actions = [step.action for step in plan.steps()]
    unknown = [action for action in actions if action not in CATALOG]
    if unknown:
        raise Refused(f"the plan has a step {unknown[0]!r}, which is none of a DC/OS plan")
    destroys = [i for i, action in enumerate(actions) if CATALOG[action].final]
    if not destroys:
        return
    before = actions[: destroys[0]]
    first = actions[destroys[0]]
    can_save = verdict.quorum or any(p.state is PodState.NO_QUORUM for p in verdict.pods)
    if first in ("dcos_replace", "dcos_scale_up") and "dcos_snapshot" not in before:
        raise Refused("the plan changes members without a snapshot", "one can be had here")
    if first == "dcos_scale_up" and "dcos_backup" not in before:
        raise Refused("the plan scales up without a backup", "its failure could not be taken back")
    if "dcos_restore" in actions and verdict.quorum:
        raise Refused("the plan restores while the quorum holds", "nothing is lost")
    if any(step.args.get("fresh") for step in plan.steps()) and "dcos_install" not in actions:
        raise Refused("the plan restores into a new cluster, and installs none")
    if first == "dcos_uninstall" and can_save and verdict.scenario != 1 and verdict.quorum:
        raise Refused("the plan uninstalls a service that serves", "it holds data")
    if actions.count("dcos_replace") > 1:
        raise Refused("the plan replaces more than one pod", "one change of members at a time")
