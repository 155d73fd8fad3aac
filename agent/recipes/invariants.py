"""What every plan must keep, whichever prefix of it is done and whichever hosts are put off.

A plan is thought through step by step from the state that the diagnosis found: after any step the
next one may never come. At a stage that waits for a host the plan goes on both ways, with the host
and without; and what was put off is thought through at the end again, as `resume` does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.errors import RescueError
from agent.model.catalog import CATALOG
from agent.model.plan import KUBERNETES_API, Plan, Stage, Step
from agent.recipes.arguments import check_arguments
from agent.recipes.cluster import Cluster
from agent.recipes.rules import RULES
from agent.recipes.rules.restoring import restored
from agent.recipes.world import Scene, World, scene_of, world_of

_TIDYING = frozenset(
    {"set_initial_cluster", "wait_serving", "set_conf_members", "set_flannel_endpoints",
     "restart_master"}
)  # fmt: skip
_NEVER_PARALLEL = frozenset(
    {"member_remove", "member_add_learner", "member_promote", "seed_cluster", "seed_in_manifest",
     "prejoin", "set_initial_cluster", "peers_silent", "guard_peers", "unguard_peers",
     "remove_stale_leases", "restart_master", "park_master"}
)  # fmt: skip


def check_plan(plan: Plan, cluster: Cluster) -> tuple[str, ...]:
    """What the plan breaks, in words; empty for a sound one."""
    scene = scene_of(plan, cluster)
    found = [*_form(plan), *_order(plan), *_arguments(plan, scene)]
    for world, off in _outcomes(scene, found):
        found += _end(world, scene, off)
        if off:
            later = [stage for stage in plan.stages if off & set(stage.waits_for)]
            for stage in later:
                found += _walk(world, stage, scene)
            found += _end(world, scene, frozenset())
    return tuple(dict.fromkeys(found))


def require_sound(plan: Plan, cluster: Cluster) -> None:
    """Raise RescueError where a plan breaks an invariant: the recipe's fault, not the host's."""
    broken = check_plan(plan, cluster)
    if broken:
        raise RescueError(
            f"internal: the plan made ({plan.recipe}) is not safe: {'; '.join(broken[:3])}",
            "a plan is carried out only if every part of it keeps every invariant",
            "report this with the output of: fab survey --output json",
        )


# ---- thinking it through -------------------------------------------------------------------------


def _outcomes(scene: Scene, found: list[str]) -> list[tuple[World, frozenset[str]]]:
    """(world at the end, hosts put off) for every subset of hosts that can be put off."""
    worlds: list[tuple[World, frozenset[str]]] = [(world_of(scene), frozenset())]
    passed: set[str] = set()
    for stage in scene.plan.stages:
        after: list[tuple[World, frozenset[str]]] = []
        for world, off in worlds:
            if off & set(stage.waits_for):
                after.append((world, off))
                continue
            after += [(world.copy(), off | gone) for gone in _may_be_put_off(stage, passed)]
            found += _untouched(stage, off)
            found += _walk(world, stage, scene)
            after.append((world, off))
        worlds = after
        passed |= set(stage.waits_for)
    return worlds


def _may_be_put_off(stage: Stage, passed: set[str]) -> list[set[str]]:
    """Hosts that may be away from this stage on; without the API, none of its hosts come back.

    A stage that only tidies asks for the quorum itself, and leaving it out changes nothing.
    """
    if all(step.action in _TIDYING for step in stage.steps):
        return []
    return [
        {*stage.without_api()} if name == KUBERNETES_API else {name}
        for name in stage.waits_for
        if name not in passed
    ]


def _untouched(stage: Stage, off: frozenset[str]) -> Iterator[str]:
    for step in stage.steps:
        if step.host in off:
            yield f"{_label(step)}: touches {step.host}, which was put off"


def _walk(world: World, stage: Stage, scene: Scene) -> list[str]:
    """Do a stage in the world given; what its steps break."""
    found: list[str] = []
    if stage.parallel:
        backwards = world.copy()
        hosts = list(dict.fromkeys(step.host for step in stage.steps))
        for host in reversed(hosts):
            found += _steps(backwards, [s for s in stage.steps if s.host == host], stage, scene)
    return found + _steps(world, stage.steps, stage, scene)


def _steps(world: World, steps: Iterable[Step], stage: Stage, scene: Scene) -> list[str]:
    found: list[str] = []
    for step in steps:
        rule = RULES.get(step.action)
        if rule is None:
            found.append(f"{_label(step)}: is no part of a recipe")
            continue
        found += [f"{_label(step)}: {text}" for text in rule(world, step, scene, _of(stage))]
        found += [f"{_label(step)}: {text}" for text in _always(world, scene)]
        if step.action != "guard_peers":  # it stands on the look, and keeps what was seen true
            world.looked = step.host if step.action == "peers_silent" else ""
    return found


def _of(stage: Stage) -> str:
    """The one host that a stage is about; empty for none or several."""
    return stage.waits_for[0] if len(stage.waits_for) == 1 else ""


def _always(world: World, scene: Scene) -> Iterator[str]:
    """What holds after every step of every plan."""
    is_steady = world.born if scene.reseeds else scene.steady
    if is_steady and world.quorate and not world.has_quorum():
        yield f"leaves {len(world.serving & world.voters)} of {len(world.voters)} voters serving"
    if not world.voters and scene.voters:
        yield "leaves a cluster without voters"
    rivals = world.runs & scene.voters - world.voters - world.learners if world.born else set()
    if rivals:
        yield f"leaves {', '.join(sorted(rivals))} running beside the rescued cluster"


def _end(world: World, scene: Scene, off: frozenset[str]) -> Iterator[str]:
    """What the plan promises, of every host that was not put off."""
    for host in scene.plan.promise.voters:
        if host in off:
            continue
        if host not in world.voters or host not in world.serving:
            yield f"at the end: {host} is promised and is no voter that serves"
        if host in world.fenced:
            yield f"at the end: the fence of {host} is not lifted"
    unseen = world.restarting | world.unproved
    if unseen:
        yield f"at the end: nobody saw {', '.join(sorted(unseen))} serve"
    halfway = world.learners & world.ours - off
    if halfway:
        yield f"at the end: {', '.join(sorted(halfway))} is still a learner"
    gone = scene.lost & (world.voters | world.learners)
    if gone and scene.plan.recipe == "remove-member":
        yield f"at the end: {', '.join(sorted(gone))} is still a member"
    yield from restored(world, scene, off)
    left = {h for h, data in world.data.items() if data == "relocated"} - off
    if left:
        yield f"at the end: the data of {', '.join(sorted(left))} lies in quarantine only"


# ---- form and order ------------------------------------------------------------------------------


def _label(step: Step) -> str:
    return f"step {step.id} ({step.action} on {step.host})"


def _form(plan: Plan) -> Iterator[str]:
    """IDs, hosts and the words of the catalog."""
    seen: set[str] = set()
    for step in plan.steps():
        if step.id in seen:
            yield f"{_label(step)}: its ID is used twice"
        seen.add(step.id)
        if step.host not in plan.hosts:
            yield f"{_label(step)}: is on a host that the plan does not know"
        spec = CATALOG.get(step.action)
        if spec is None:
            yield f"{_label(step)}: there is no such action"
        elif (spec.precondition, spec.undo) != (step.precondition, step.undo):
            yield f"{_label(step)}: does not say what the catalog says of its action"
        elif spec.final and not step.final:
            yield f"{_label(step)}: does not say that there is no way back"


def _arguments(plan: Plan, scene: Scene) -> Iterator[str]:
    """What steps say of places and members; the same whatever was done before them."""
    for step in plan.steps():
        for text in check_arguments(step, scene):
            yield f"{_label(step)}: {text}"


def _order(plan: Plan) -> Iterator[str]:
    """Tidy stages last; what depends on others is never done in parallel."""
    tidied = False
    for stage in plan.stages:
        for step in stage.steps:
            if tidied and step.action not in _TIDYING:
                yield f"{_label(step)}: comes after manifests were brought up to date"
            if stage.parallel and step.action in _NEVER_PARALLEL:
                yield f"{_label(step)}: must not be done while other hosts do theirs"
        tidied = tidied or any(s.action == "set_initial_cluster" for s in stage.steps)
