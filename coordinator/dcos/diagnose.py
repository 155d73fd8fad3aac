"""Which of the four scenarios holds, and why; pure.

1 first installation, 2 scale-up of high_availability, 3 not HA and the member is down, 4 HA and
members are down. A linearizable answer proves a quorum; that a task is RUNNING proves nothing. That
an agent does not answer its master does not mean that it is gone: only Mesos (TASK_GONE) or the
operator's word says so.
"""

from __future__ import annotations

from collections.abc import Collection

from coordinator.dcos.model import PodState, PodVerdict, Remedy, Verdict, View
from coordinator.dcos.refusals import refusals

_GONE = ("TASK_GONE", "TASK_GONE_BY_OPERATOR")
_ENDED = ("TASK_FAILED", "TASK_FINISHED", "TASK_KILLED", "TASK_ERROR", "TASK_DROPPED")
CRASHES = 3
"""Failed runs in a row on one agent that are no passing trouble any more."""

SUSPECT = 2
"""Failed scale-ups in a row after which the DC/OS cluster itself is suspect."""

_DOWN = (PodState.RESTARTING, PodState.CRASHING, PodState.UNREACHABLE, PodState.SILENT,
         PodState.NO_QUORUM, PodState.NEVER_STARTED)  # fmt: skip


def diagnose(view: View, lost: Collection[str] = (), failures: int = 0) -> Verdict:
    """Say which scenario holds, what is lost, and what fits.

    lost: pods whose agent the operator says is gone for good. failures: of scale-ups, in a row.
    """
    pods = tuple(_pod(view, pod, pod in lost) for pod in view.expected)
    quorum = any(answer.linearizable for answer in view.answers.values())
    scenario, state, why, remedy, target = _judge(view, pods, quorum)
    gone, kept = _lost_and_kept(view, pods, quorum, scenario)
    found = Verdict(
        view.service, view.cluster, scenario, state, why, pods, quorum, gone, kept, remedy, target,
        _command(view, remedy, target, pods), warnings=_warnings(view, failures), failures=failures,
    )  # fmt: skip
    return Verdict(**{**found.__dict__, "refusals": refusals(view, found)})


def _pod(view: View, pod: str, declared: bool) -> PodVerdict:
    run, answer = view.run_of(pod), view.answers.get(pod)
    if run is None:
        state = PodState.LOST if declared else PodState.NEVER_STARTED
        return PodVerdict(pod, state, "no task of it was ever there")
    agent = view.agent(run.agent)
    if answer is not None and answer.linearizable:
        state, why = PodState.SERVING, f"answers through the quorum on {agent.hostname}"
    elif answer is not None:
        state, why = PodState.NO_QUORUM, f"answers on {agent.hostname}, but alone"
    elif run.state in _GONE:
        state, why = PodState.LOST, f"{run.state}: agent {agent.hostname} is gone for good"
    elif declared:
        state, why = PodState.LOST, f"declared lost with its agent {agent.hostname}"
    elif not agent.active or run.state in ("TASK_UNREACHABLE", "TASK_LOST"):
        state = PodState.UNREACHABLE
        why = f"{run.state}: agent {agent.hostname} does not answer its master; it may come back"
    elif run.state == "TASK_RUNNING":
        state, why = PodState.SILENT, f"runs on {agent.hostname}, but its etcd does not answer"
    else:
        state, why = _restarting(view, pod, run.agent, run.state, agent.hostname)
    revision = answer.revision if answer else 0
    return PodVerdict(pod, state, why, agent.hostname, run.id, revision)


def _restarting(
    view: View, pod: str, agent: str, state: str, hostname: str
) -> tuple[PodState, str]:
    runs = [run for run in view.runs if run.name == f"{pod}-peer" and run.agent == agent]
    failed = 0
    for run in reversed(runs):
        if run.state not in _ENDED and run is not runs[-1]:
            break
        failed += run.state in _ENDED
    if failed >= CRASHES:
        return PodState.CRASHING, f"failed {failed} times in a row on {hostname}, which is healthy"
    return PodState.RESTARTING, f"{state} on {hostname}, which is healthy: started again there"


# ---- the scenario --------------------------------------------------------------------------------

_Judged = tuple[int, str, str, Remedy, str]


def _judge(view: View, pods: tuple[PodVerdict, ...], quorum: bool) -> _Judged:
    down = [pod for pod in pods if pod.state is not PodState.SERVING]
    if _is_first_installation(view, quorum):
        return _first_installation(view, down)
    if not down:
        return 0, "healthy", f"{len(pods)} of {len(pods)} members serve", Remedy.NONE, ""
    if _is_scaling(view, pods):
        return _scaling(view, down, quorum)
    return _not_ha(view, pods[0]) if len(pods) == 1 else _ha(pods, quorum)


def _is_first_installation(view: View, quorum: bool) -> bool:
    """The deployment is still at etcd, no API server was ever there, and no key is stored."""
    is_empty = all(answer.keys == 0 for answer in view.answers.values())
    is_deploying = view.deploy.status != "COMPLETE" and not view.deploy.later
    return is_deploying and not view.api_ran and is_empty


def _first_installation(view: View, down: list[PodVerdict]) -> _Judged:
    if not down:
        return 1, "installing", "all of etcd serves; the rest follows", Remedy.WATCH, ""
    who = ", ".join(f"{pod.pod} ({pod.state.value})" for pod in down)
    why = f"first installation, and not all of etcd started: {who}"
    inactive = [agent.hostname for agent in view.agents if not agent.active]
    healthy = sum(agent.active for agent in view.agents)
    if inactive or healthy < len(view.expected):
        told = f"; {healthy} agents are healthy, {len(view.expected)} are needed"
        told += f"; not healthy: {', '.join(inactive)}" if inactive else ""
        return 1, "installation-failed", why + told, Remedy.WATCH, ""
    started = any(view.run_of(pod.pod) for pod in down)
    if view.deploy.is_at_work and not view.deploy.errors and not _is_stuck(down) and started:
        return 1, "installing", why + "; the scheduler is still at it", Remedy.WATCH, ""
    return 1, "installation-failed", why, Remedy.REINSTALL, ""


def _is_stuck(down: list[PodVerdict]) -> bool:
    return any(p.state in (PodState.CRASHING, PodState.LOST, PodState.NO_QUORUM) for p in down)


def _is_scaling(view: View, pods: tuple[PodVerdict, ...]) -> bool:
    """HA is wanted, and the scheduler has not yet brought all three members in."""
    if len(pods) < 3 or view.deploy.status == "COMPLETE":
        return False
    return any(status != "COMPLETE" for _step, status in view.deploy.etcd) or len(
        view.deploy.etcd
    ) < len(pods)


def _scaling(view: View, down: list[PodVerdict], quorum: bool) -> _Judged:
    who = ", ".join(f"{pod.pod} ({pod.state.value})" for pod in down)
    if quorum:
        return 2, "scaling", f"scale-up to three members, not yet there: {who}", Remedy.WATCH, ""
    why = f"the scale-up to three members lost the quorum: {who}"
    if view.deploy.is_at_work and not view.deploy.errors and not _is_stuck(down):
        return 2, "scaling", f"{why}; the scheduler is still at it", Remedy.WATCH, ""
    return 2, "scale-up-failed", why, Remedy.REBUILD, ""


def _not_ha(view: View, pod: PodVerdict) -> _Judged:
    if pod.state is PodState.LOST:
        return 3, "data-lost", f"the only member: {pod.why}", Remedy.RESTORE, ""
    return 3, "down", f"the only member: {pod.why}", Remedy.WATCH, ""


def _ha(pods: tuple[PodVerdict, ...], quorum: bool) -> _Judged:
    lost = [p for p in pods if p.state is PodState.LOST]
    down = [p for p in pods if p.state is not PodState.SERVING]
    who = ", ".join(f"{p.pod} ({p.state.value})" for p in down)
    if quorum:
        stuck = [p for p in down if p.state in (PodState.LOST, PodState.CRASHING)]
        if len(stuck) == len(down) == 1:
            why = f"the quorum holds; {stuck[0].pod}: {stuck[0].why}"
            return 4, "degraded", why, Remedy.REPLACE, stuck[0].pod
        return 4, "degraded", f"the quorum holds; not serving: {who}", Remedy.WATCH, ""
    if len(lost) >= 2:
        why = f"the quorum is gone for good: {', '.join(p.pod for p in lost)} are lost"
        return 4, "quorum-lost", why, Remedy.RESTORE, ""
    why = f"no quorum now, but {len(lost)} of {len(pods)} members are lost for good: {who}"
    return 4, "no-quorum", why, Remedy.WATCH, ""


# ---- what it means -------------------------------------------------------------------------------


def _lost_and_kept(
    view: View, pods: tuple[PodVerdict, ...], quorum: bool, scenario: int
) -> tuple[str, str]:
    if scenario == 1:
        return "nothing: no key was ever stored", ""
    if quorum:
        return "nothing", "all data, on the members that serve"
    dead = [p.pod for p in pods if p.state is PodState.LOST]
    alone = [p for p in pods if p.state is PodState.NO_QUORUM]
    if alone:
        best = max(alone, key=lambda p: p.revision)
        kept = (
            f"{best.pod} can still be read alone (revision {best.revision}): a snapshot can be had"
        )
    else:
        held = [p.pod for p in pods if p.pod not in dead and p.state is not PodState.NEVER_STARTED]
        kept = f"the data of {', '.join(held)}, where their agents are" if held else "no member"
    if not dead:
        return "nothing for good, as far as is known", kept
    return f"the data of {', '.join(dead)}, with their agents", kept


def _command(view: View, remedy: Remedy, target: str, pods: tuple[PodVerdict, ...]) -> str:
    name = "" if view.service == "kubernetes" else f" --service {view.service}"
    if remedy is Remedy.NONE:
        return ""
    away = [p.pod for p in pods if p.state in (PodState.UNREACHABLE,)]
    if remedy is Remedy.WATCH and away:
        words = " ".join(f"--lost {pod}" for pod in away)
        return f"fab dcos-rescue{name}   (an agent that is gone for good: {words})"
    lost = "".join(
        f" --lost {p.pod}" for p in pods if p.state is PodState.LOST and "declared" in p.why
    )
    bucket = (
        " --bucket BUCKET --region REGION" if remedy in (Remedy.RESTORE, Remedy.REBUILD) else ""
    )
    return f"fab dcos-rescue{name}{lost}{bucket}"


def _warnings(view: View, failures: int) -> tuple[str, ...]:
    found = []
    if failures >= SUSPECT:
        found.append(
            f"the scale-up failed {failures} times in a row: the DC/OS cluster itself is suspect; "
            "check its agents, network and prerequisites, and call its support"
        )
    away = [agent.hostname for agent in view.agents if not agent.active]
    if away:
        found.append(f"agents that do not answer their master: {', '.join(away)}")
    if view.high_availability is None:
        found.append(
            "the option kubernetes.high_availability cannot be read here (`describe` needs DC/OS "
            f"Enterprise); the scheduler lists {len(view.pods)} etcd pods, and that is taken"
        )
    for plan in (view.deploy, view.recovery):
        found += [f"plan {plan.name}: {error}" for error in plan.errors]
    return tuple(found)
