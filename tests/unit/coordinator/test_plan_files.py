"""Plans out of files: written, read back, and held against hosts as they are by now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.entry.verbs import VERBS
from agent.errors import Locked, Refused, Unsigned, UsageError
from agent.host import Host
from agent.model.facts import JournalFacts, Lock, Observation
from agent.model.plan import Plan, plan_to_plain
from agent.model.signed import Policy, plan_text
from agent.recipes.reseed import reseed
from agent.recipes.restore import restore
from coordinator.console import Progress
from coordinator.fleet import Fleet
from coordinator.inventory import load_inventory
from coordinator.signing import load_plan, save_plan, to_be_signed
from coordinator.tasks.common import Looked
from coordinator.tasks.open_plans import refuse_open_plans, without_left_behind
from coordinator.tasks.plan_files import require_fitting
from tests.unit.builders import Lab, with_survey
from tests.unit.recipes.making import NOW, cluster_of, make
from tests.unit.recipes.mutants import disasters, mutants
from tests.unit.recipes.test_restore import ALL_CORRUPT, wish

LAB = Lab(3)
ILL = [LAB.healthy(0), LAB.healthy(1), LAB.corrupt(2)]
LOST = [LAB.no_quorum(0), LAB.wiped(1), LAB.unreachable(2)]
REPLACE = make(cluster_of(ILL), "replace-member", "master-3")
RESEED = reseed(cluster_of(LOST, "master-3"), NOW, ["master-3"])


class Stored(Fleet):
    """A fleet that knows one stored plan; the agent's own verbs read the others."""

    def __init__(self, plan: Plan | None = None) -> None:
        self._plan = plan

    def call(self, host: str, verb: str, args: dict[str, Any], *_: Any) -> Any:
        if verb == "plan" and self._plan is not None:
            return plan_to_plain(self._plan)
        return VERBS[verb](Host("/nonexistent"), args, print)


def looked(observations: Sequence[Observation], *lost: str, plan: Plan | None = None) -> Looked:
    cluster = cluster_of(observations, *lost)
    return Looked(Stored(plan), cluster.observations, cluster.diagnosis, Progress())


# ---- fitting -------------------------------------------------------------------------------------


def test_a_plan_fits_the_state_it_was_made_for() -> None:
    require_fitting(REPLACE, looked(ILL))
    require_fitting(RESEED, looked(LOST, "master-3"))


def test_what_an_operator_wishes_is_judged_by_its_steps_alone() -> None:
    plan = restore(cluster_of(ALL_CORRUPT), NOW, wish("master-1"))
    require_fitting(plan, looked(ALL_CORRUPT))
    with pytest.raises(Refused, match=r"not safe as the hosts are now: .*discards what is served"):
        require_fitting(plan, looked([LAB.healthy(n) for n in range(3)]))
    fences = next(stage for stage in plan.stages if stage.steps[0].action == "fence")
    rest = tuple(stage for stage in plan.stages if stage is not fences)
    with pytest.raises(Refused, match="not safe"):
        require_fitting(replace(plan, stages=rest).with_id(), looked(ALL_CORRUPT))


MOVED = {
    "healthy by now": (REPLACE, [LAB.healthy(0), LAB.healthy(1), LAB.healthy(2)], ()),
    "the quorum is lost by now": (REPLACE, [LAB.healthy(0), *LOST[1:]], ()),
    "another cluster": (REPLACE, [Lab(3, cluster_id="dddddddddddddddd").healthy(0)], ()),
    "another member is ill": (REPLACE, [LAB.healthy(0), LAB.corrupt(1), LAB.healthy(2)], ()),
    "a quorum again": (RESEED, [LAB.healthy(0), LAB.healthy(1), LAB.unreachable(2)], ("master-3",)),
    "a host is not there": (replace(REPLACE, hosts={**REPLACE.hosts, "x": ""}), ILL, ()),
    "the lost one answers": (RESEED, [*LOST[:2], LAB.unreachable(2, (2380,))], ("master-3",)),
}  # fmt: skip


@pytest.mark.reliability(
    "Plans checked twice", "a plan out of a file is held against a fresh look before it is begun"
)
@pytest.mark.parametrize("case", MOVED)
def test_a_plan_is_refused_where_the_world_moved_on(case: str) -> None:
    plan, observations, lost = MOVED[case]
    with pytest.raises(Refused, match="does not fit") as caught:
        require_fitting(plan.with_id(), looked(observations, *lost))
    assert caught.value.why
    assert caught.value.next


@pytest.mark.reliability(
    "Plans checked twice", "a plan changed by hand so that it could do harm is refused"
)
@pytest.mark.parametrize("name", ["replace", "reseed"])
def test_no_dangerous_change_by_hand_gets_through(name: str, figure: Any) -> None:
    plan, hosts, lost = (REPLACE, ILL, ()) if name == "replace" else (RESEED, LOST, ("master-3",))
    cluster, through, refused = cluster_of(hosts, *lost), [], 0
    for _kind, what, mutant in mutants(plan):
        try:
            require_fitting(mutant.with_id(), looked(hosts, *lost))
        except (Refused, UsageError):
            refused += 1
            continue
        through.append((what, disasters(mutant, cluster, lost)))
    assert [what for what, harm in through if harm] == []
    assert refused > 4 * len(through)
    figure("plans changed by hand", refused + len(through))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"action": "rm"}, "no action"),
        ({"args": {"wrong": 1}}, "wrong"),
        ({"args": {"reason": 7}}, "reason"),
        ({"args": {"reason": "x", "deadline": "soon"}}, "deadline"),
    ],
)
def test_a_step_that_no_agent_reads_is_refused_at_once(given: dict[str, Any], told: str) -> None:
    stages = list(REPLACE.stages)
    at = next(i for i, stage in enumerate(stages) if stage.steps[0].action == "fence")
    first, *rest = stages[at].steps
    stages[at] = replace(stages[at], steps=(replace(first, **given), *rest))
    with pytest.raises(UsageError, match=told):
        require_fitting(replace(REPLACE, stages=tuple(stages)).with_id(), looked(ILL))


# ---- files ---------------------------------------------------------------------------------------


def test_a_saved_plan_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    save_plan(REPLACE, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_plan(file) == (REPLACE, None)
    with pytest.raises(Refused, match="is there already"):
        save_plan(REPLACE, file)
    (tmp_path / "plan.json.sig").write_text("-----BEGIN SSH SIGNATURE-----\n")
    plan, signed = load_plan(file)
    assert plan == REPLACE
    assert signed is not None
    assert signed.text == plan_text(REPLACE) == file.read_text()


def test_a_plan_without_an_id_is_given_its_own(tmp_path: Path) -> None:
    file = tmp_path / "by-hand.json"
    plain = {**plan_to_plain(REPLACE), "summary": "by hand"}
    file.write_text(json.dumps({k: v for k, v in plain.items() if k != "id"}))
    assert load_plan(file)[0].id == replace(REPLACE, summary="by hand").with_id().id
    file.write_text(json.dumps(plain))
    with pytest.raises(UsageError, match="does not match its own hash"):
        load_plan(file)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{", b'{"id": ""}', b"x" * 20_000_000])
def test_what_is_no_plan_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"plan\.json"):
        load_plan(file)
    with pytest.raises(UsageError, match="No such file"):
        load_plan(tmp_path / "none.json")


def test_a_plan_that_must_be_signed_is_written_and_the_commands_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = to_be_signed(REPLACE, "signed plans only")
    (written,) = tmp_path.iterdir()
    assert isinstance(error, Unsigned)
    assert error.next == (
        f"ssh-keygen -Y sign -n etcd-rescue@plan -f KEY {written.name}; fab apply {written.name}"
    )
    assert load_plan(written)[0] == REPLACE
    again = to_be_signed(REPLACE, "signed plans only", Path("my.json"))
    assert "my.json has no signature beside it" in again.seen
    assert list(tmp_path.iterdir()) == [written]


# ---- cluster.yaml --------------------------------------------------------------------------------


def inventory(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"{text}hosts: [m0]\n")
    return load_inventory(file).policy


def test_the_policy_of_a_cluster_yaml(tmp_path: Path) -> None:
    (tmp_path / "who").write_text("ann ssh-ed25519 AAAA\n")
    assert inventory(tmp_path, "") == Policy()
    said = inventory(tmp_path, "require_signed_plans: true\nallowed_signers: who\n")
    assert said == Policy(True, "ann ssh-ed25519 AAAA\n", "", str(tmp_path / "cluster.yaml"))


@pytest.mark.parametrize(
    "text",
    [
        "require_signed_plans: 1\n", "require_signed_plans: 'true'\n", "allowed_signers: 7\n",
        "allowed_signers: none\n", "revoked_signers: [a]\n", "allowed_signers: .\n",
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_read_is_a_usage_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        inventory(tmp_path, text)


# ---- plans left open -----------------------------------------------------------------------------

HOLDER = Lock(REPLACE.id, "ann@desk pid 7", 1, LAB.survey(0).time - 300)


def left_open(*rows: tuple[int, str, tuple[str, ...], bool]) -> Looked:
    """Hosts with a journal of REPLACE: number, state, steps done, whether its run is at work."""
    found = list(ILL)
    for number, state, done, alive in rows:
        journal = JournalFacts(REPLACE.id, REPLACE.recipe, state, done, (), 1.0)
        lock = replace(HOLDER, alive=alive) if state == "open" else None
        found[number] = with_survey(ILL[number], journals=(journal,), lock=lock)
    return looked(found, plan=REPLACE)


LOOKS = ("01",)
WORK = ("01", "02")


@pytest.mark.parametrize(
    "rows",
    [
        [(0, "open", (), False), (1, "open", (), False), (2, "open", (), False)],
        [(2, "open", LOOKS, False)],
        [(0, "complete", WORK, False), (1, "open", (), False), (2, "complete", WORK, False)],
        [(0, "rolled-back", (), False), (1, "open", (), False)],
    ],
)
def test_a_plan_that_is_over_stands_in_nobodys_way(rows: list[Any]) -> None:
    seen = left_open(*rows)
    refuse_open_plans(seen)
    again = without_left_behind(seen, ())
    assert again.diagnosis == looked(ILL).diagnosis


@pytest.mark.reliability(
    "Locks", "a refusal names the holder, the plan, its age, and whether that run is at work"
)
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(0, "open", (), True)], "is at work there now"),
        ([(2, "open", WORK, False)], "has ended, and the plan is not finished"),
        ([(0, "complete", (), False), (2, "open", WORK, False)], "has ended"),
    ],
)
def test_a_plan_that_is_not_over_is_refused(rows: list[Any], told: str) -> None:
    with pytest.raises(Locked, match=told) as caught:
        refuse_open_plans(left_open(*rows))
    assert f"plan {REPLACE.short_id} of ann@desk pid 7" in caught.value.seen
    assert "taken 5 min ago" in caught.value.seen
    assert caught.value.next.startswith(f"fab resume {REPLACE.short_id}")


def test_an_idle_plan_is_not_over_while_a_host_of_it_is_away() -> None:
    hosts = [ILL[0], ILL[1], LAB.unreachable(2)]
    journal = JournalFacts(REPLACE.id, REPLACE.recipe, "open", (), (), 1.0)
    hosts[0] = with_survey(hosts[0], journals=(journal,), lock=HOLDER)
    with pytest.raises(Locked):
        refuse_open_plans(looked(hosts, plan=REPLACE))
