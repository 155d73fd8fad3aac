"""Why a remedy is not taken in a state: what was seen, why that forbids it, what to do; pure."""

from __future__ import annotations

from agent.errors import Refused
from coordinator.dcos.model import Forbidden, PodState, Remedy, Verdict, View


def refusals(view: View, verdict: Verdict) -> tuple[Forbidden, ...]:
    """All remedies but the one that fits, each with its reason."""
    found = [forbidden(view, verdict, remedy) for remedy in Remedy if remedy is not Remedy.NONE]
    return tuple(one for one in found if one is not None)


def require(view: View, verdict: Verdict, remedy: Remedy, pod: str = "") -> None:
    """Raise Refused unless this remedy (of this pod) is the right one."""
    found = forbidden(view, verdict, remedy, pod)
    if found is not None:
        raise Refused(found.seen, found.why, found.next)


def forbidden(view: View, verdict: Verdict, remedy: Remedy, pod: str = "") -> Forbidden | None:
    """Why this remedy is the wrong one now; None where it is right."""
    check = {
        Remedy.REPLACE: _replace, Remedy.RESTORE: _restore, Remedy.SCALE_UP: _scale_up,
        Remedy.REBUILD: _rebuild, Remedy.REINSTALL: _reinstall,
    }.get(remedy)  # fmt: skip
    found = check(view, verdict, pod) if check else None
    if found is None:
        return None
    seen, why = found
    return Forbidden(remedy.value, seen, why, verdict.command or "fab dcos-diagnose")


_Reason = tuple[str, str] | None


def _replace(view: View, verdict: Verdict, pod: str) -> _Reason:
    if len(verdict.pods) == 1:
        return ("there is one member only (high_availability is false)",
                "`pod replace` would destroy the only data there is")  # fmt: skip
    if not verdict.quorum:
        return ("the quorum is gone" if verdict.scenario else "no member serves",
                "a replaced pod starts empty and joins through the quorum; with none it only takes "
                "the data of one more member away")  # fmt: skip
    target = pod or verdict.target
    one = next((p for p in verdict.pods if p.pod == target), None)
    if pod and one is None:
        return f"there is no pod {pod}", f"known: {', '.join(p.pod for p in verdict.pods)}"
    if one is None:
        return "no pod is lost or keeps crashing", "a pod that comes back by itself keeps its data"
    if one.state is PodState.SERVING:
        return (f"{one.pod} serves", "replacing it destroys a healthy copy"
                + (" while another is down" if _down(verdict) else ""))  # fmt: skip
    if one.state not in (PodState.LOST, PodState.CRASHING):
        return (f"{one.pod} is {one.state.value}: {one.why}",
                "it may come back with its data; `pod replace` destroys that for good "
                f"(where its agent is gone for good: --lost {one.pod})")  # fmt: skip
    if verdict.scenario == 2:
        return ("a scale-up is under way", "one change of the members at a time")
    return None


def _down(verdict: Verdict) -> list[str]:
    return [p.pod for p in verdict.pods if p.state is not PodState.SERVING]


def _restore(view: View, verdict: Verdict, _pod: str) -> _Reason:
    if verdict.quorum:
        return ("the quorum holds: a member answers linearizable reads",
                "a restore throws away all since the backup, and nothing is lost")  # fmt: skip
    if verdict.scenario == 1:
        return "nothing was ever stored", "there is nothing to restore"
    lost = [p.pod for p in verdict.pods if p.state is PodState.LOST]
    needed = len(verdict.pods) // 2 + 1
    if verdict.scenario != 2 and len(lost) < needed:
        return (f"{len(lost)} of {len(verdict.pods)} members are lost for good",
                f"with fewer than {needed} lost the others can come back with all data; a restore "
                "throws away everything since the backup")  # fmt: skip
    return None


def _rebuild(view: View, verdict: Verdict, pod: str) -> _Reason:
    return _restore(view, verdict, pod)


def _scale_up(view: View, verdict: Verdict, _pod: str) -> _Reason:
    if len(verdict.pods) != 1 or view.high_availability:
        return "high_availability is true already", "there is nothing to scale up"
    if verdict.state != "healthy":
        return (f"the only member is {verdict.pods[0].state.value}: {verdict.pods[0].why}",
                "a scale-up begins with a member that serves, and a snapshot of it")  # fmt: skip
    if view.deploy.status != "COMPLETE":
        return (f"the plan deploy is {view.deploy.status}",
                "somebody or something is at work on this service")  # fmt: skip
    short = sum(agent.active for agent in view.agents)
    if short < 3:
        return (f"{short} agents are healthy", "three members need three agents")
    return None


def _reinstall(view: View, verdict: Verdict, _pod: str) -> _Reason:
    if verdict.scenario != 1:
        return ("the service has been in use" + (": it holds data" if verdict.quorum else ""),
                "uninstalling it destroys what is stored")  # fmt: skip
    if verdict.remedy is not Remedy.REINSTALL:
        return (
            verdict.why,
            "installing again meets the same trouble, or the first one may still end",
        )
    return None
