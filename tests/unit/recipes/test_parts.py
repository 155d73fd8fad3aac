"""Whatever order the consoles are gone to, no step is done before what it stands on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.diagnosis.cluster import diagnose
from agent.model.catalog import CATALOG
from agent.model.plan import Plan
from agent.recipes.cluster import Cluster
from agent.recipes.parts import before, given_up, left_in, part_of, to_finish
from agent.recipes.replace_member import replace_member
from agent.recipes.reseed import reseed
from tests.unit.builders import NOW, Lab

LAB = Lab(3)
LOST = [LAB.no_quorum(0), LAB.wiped(1), LAB.wiped(2)]
ILL = [LAB.healthy(0), LAB.healthy(1), LAB.wiped(2)]
ALL = ("master-1", "master-2", "master-3")


def plan_for_lost() -> Plan:
    lost = diagnose(LOST)
    return reseed(Cluster(lost, tuple(LOST)), NOW)


RESEED = plan_for_lost()
REPLACE = replace_member(Cluster(diagnose(ILL), tuple(ILL)), "master-3", NOW)
PLANS = st.sampled_from((RESEED, REPLACE))


def visit(plan: Plan, host: str, done: set[str], put_off: tuple[str, ...] = ()) -> set[str]:
    """Do a host's part, one step at a time; what is done then."""
    now = set(done)
    for step in part_of(plan, host, done, put_off).steps:
        assert step.host == host
        missing = [s.id for s in before(plan, step.id) if s.id not in now and not put_off]
        assert not missing, f"{step.id} before {missing}"
        now.add(step.id)
    return now


@given(PLANS, st.lists(st.sampled_from(ALL), max_size=60))
def test_in_any_order_of_visits_no_step_is_early(plan: Plan, order: list[str]) -> None:
    done: set[str] = set()
    for host in order:
        done = visit(plan, host, done)


@given(PLANS, st.sampled_from(ALL))
def test_whoever_goes_where_he_is_told_comes_to_the_end(plan: Plan, host: str) -> None:
    done: set[str] = set()
    for _ in range(len(plan.steps()) + 1):
        done = visit(plan, host, done)
        coming = part_of(plan, host, done).next
        if coming is None:
            break
        host = coming.host
    assert done == {step.id for step in plan.steps()}


def test_a_part_that_cannot_begin_says_what_it_waits_for() -> None:
    first = RESEED.steps()[0]
    other = next(host for host in ALL if host != first.host)
    everything_of_other = visit(RESEED, other, set())
    part = part_of(RESEED, other, everything_of_other)
    assert not part.steps
    assert part.stop is not None
    assert part.stop.host != other
    assert part.next is not None
    assert part.next.id == first.id


def test_a_look_is_repeated_right_before_what_it_is_for_and_not_else() -> None:
    done = {s.id for s in RESEED.steps()}
    seed = next(s for s in RESEED.steps() if s.action == "unpark_definition")
    again = part_of(RESEED, seed.host, done - {seed.id}).steps
    assert [s.action for s in again] == ["peers_silent", "guard_peers", "unpark_definition"]
    promoted = next(s for s in RESEED.steps() if s.action == "member_promote")
    joiner = next(s.host for s in RESEED.steps()[RESEED.steps().index(promoted) + 1 :])
    after = {s.id for s in before(RESEED, promoted.id)} | {promoted.id}
    steps = part_of(RESEED, joiner, after).steps
    assert steps
    assert not {s.id for s in steps} & after, "what stood before another host's step is past"


def test_stages_of_a_host_put_off_are_left_out_and_waited_for_by_nobody() -> None:
    done: set[str] = set()
    host = ALL[0]
    for _ in range(40):
        done = visit(RESEED, host, done, ("master-2",))
        coming = part_of(RESEED, host, done, ("master-2",)).next
        if coming is None:
            break
        host = coming.host
    left = {s.id for s in RESEED.steps()} - done
    late = {s.id for g in RESEED.stages if "master-2" in g.waits_for for s in g.steps}
    assert left == late
    assert left


def test_what_goes_with_a_host_given_up() -> None:
    gone = given_up(RESEED, ["master-2"])
    assert {s.id for s in RESEED.steps() if s.host == "master-2"} <= gone
    assert {s.id for g in RESEED.stages if "master-2" in g.waits_for for s in g.steps} <= gone
    assert not gone & {s.id for s in RESEED.stages[2].steps}


def test_what_was_begun_is_finished_after_its_looks() -> None:
    seed = next(s for s in RESEED.steps() if s.action == "unpark_definition")
    found = to_finish(RESEED, seed.host, [seed.id])
    assert [s.action for s in found if s.action == "peers_silent"]
    assert found[-1] == seed
    assert to_finish(RESEED, seed.host, []) == []


@given(PLANS, st.data())
def test_left_in_is_what_a_coordinator_runs(plan: Plan, data: st.DataObject) -> None:
    stage = data.draw(st.sampled_from(plan.stages))
    done = data.draw(st.sets(st.sampled_from([s.id for s in stage.steps])))
    left = left_in(stage, done)
    assert {s.id for s in stage.steps} - done <= {s.id for s in left}
    assert all(s.id not in done or not CATALOG[s.action].effects for s in left)
    assert not left or left[-1].id not in done
