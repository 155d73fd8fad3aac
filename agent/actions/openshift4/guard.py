"""The etcd operator's quorum guard: switched off, and given back exactly as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from agent.actions.base import Action, Context, Data
from agent.actions.openshift4.api import CLUSTER, asking
from agent.errors import PreconditionFailed, StepFailed
from agent.kube.client import Kube, Object
from agent.kube.objects import at, ready_pods
from agent.kube.paths import ETCDS
from agent.model.codec import canonical, parse_json

OVERRIDE = "useUnsupportedUnsafeNonHANonProductionUnstableEtcd"
NOTE = "etcd-rescue/overrides-before"
"""Annotation of the object: its unsupportedConfigOverrides as JSON, from before it was changed."""


@dataclass(frozen=True)
class GuardArgs:
    """enabled: False switches the guard off, True gives back what was there before that.

    unless_pods: it is left on where this many etcd pods are ready; 0: it is switched off anyway.
    """

    enabled: bool
    unless_pods: int = 0


def read_etcd(kube: Kube) -> Object:
    """The object that the etcd operator goes by. Raises PreconditionFailed where there is none."""
    found = kube.get(ETCDS, CLUSTER)
    if found is None:
        raise PreconditionFailed(
            f"the API has no {ETCDS.full_name} {CLUSTER!r}", "no etcd operator is at work there"
        )
    return found


def _overrides(etcd: Object) -> Any:
    return at(etcd, "spec", "unsupportedConfigOverrides")


def _noted(etcd: Object) -> Any:
    """What was noted of before; False for no note."""
    note = at(etcd, "metadata", "annotations", NOTE)
    return parse_json(note, f"annotation {NOTE}") if isinstance(note, str) else False


def switch_off(etcd: Object) -> Object:
    """The merge patch that switches the guard off and notes what was there."""
    change: Object = {"spec": {"unsupportedConfigOverrides": {OVERRIDE: True}}}
    if _noted(etcd) is False:
        change["metadata"] = {"annotations": {NOTE: canonical(_overrides(etcd)).decode()}}
    return change


def give_back(etcd: Object) -> Object:
    """The merge patch that gives back what was there; other overrides of now stay."""
    before, now = _noted(etcd), _overrides(etcd)
    was = before.get(OVERRIDE) if isinstance(before, dict) else None
    others = {k for k in now if k != OVERRIDE} if isinstance(now, dict) else set()
    keep = isinstance(before, dict) or others
    value: Any = {OVERRIDE: was} if keep else None
    return {
        "metadata": {"annotations": {NOTE: None}},
        "spec": {"unsupportedConfigOverrides": value},
    }


def _is_needless(kube: Kube, args: GuardArgs) -> bool:
    return bool(args.unless_pods) and len(ready_pods(kube)) >= args.unless_pods


class SetQuorumGuard(Action[GuardArgs]):
    """What was there is noted on the object itself: the step that gives it back is another one."""

    name = "set_quorum_guard"
    args_type = GuardArgs

    def check(self, ctx: Context, args: GuardArgs) -> None:
        with asking(ctx, self.name) as kube:
            read_etcd(kube)

    def prepare(self, ctx: Context, args: GuardArgs) -> Data:
        with asking(ctx, self.name) as kube:
            etcd = read_etcd(kube)
        return {"overrides": _overrides(etcd), "note": _noted(etcd)}

    def is_done(self, ctx: Context, args: GuardArgs, undo: Optional[Data]) -> bool:
        with asking(ctx, self.name) as kube:
            etcd = read_etcd(kube)
            is_noted = _noted(etcd) is not False
            if args.enabled or (not is_noted and _is_needless(kube, args)):
                return not is_noted
        return is_noted and at(_overrides(etcd), OVERRIDE) is True

    def act(self, ctx: Context, args: GuardArgs, undo: Data) -> Data:
        with asking(ctx, self.name) as kube:
            etcd = read_etcd(kube)
            if args.enabled and _noted(etcd) is False:
                return {"guard": "was not switched off"}
            if not args.enabled and _is_needless(kube, args):
                return {"guard": "left on"}
            kube.patch(ETCDS, CLUSTER, give_back(etcd) if args.enabled else switch_off(etcd))
            # Proved here and not by a look at the pods: those may come and go meanwhile.
            if (_noted(read_etcd(kube)) is False) is not args.enabled:
                raise StepFailed("the API took the change, and the object does not have it")
        return {"guard": "as it was" if args.enabled else "off"}

    def undo(self, ctx: Context, args: GuardArgs, undo: Data) -> None:
        with asking(ctx, self.name) as kube:
            etcd = read_etcd(kube)
            if not args.enabled and _noted(etcd) is not False:
                kube.patch(ETCDS, CLUSTER, give_back(etcd))
            elif args.enabled and undo["note"] is not False:
                kube.patch(ETCDS, CLUSTER, switch_off(etcd))
