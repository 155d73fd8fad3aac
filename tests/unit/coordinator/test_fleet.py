"""Names of one machine: what a plan calls a host counts, however else it was found."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from agent.model.facts import Observation
from coordinator.agent_file import AgentFile
from coordinator.connection import Access
from coordinator.fleet import Fleet
from coordinator.hosts import HostSpec
from tests.unit.builders import Lab

LAB = Lab(3)
PLAN = {"master-1": "10.0.0.1", "master-2": "10.0.0.2"}


class Seen(Fleet):
    """A fleet whose hosts are what the lab says, under whatever name they were found."""

    def __init__(self, *specs: HostSpec) -> None:
        super().__init__(specs, _NO_AGENT, Access(), complete=True)

    def _survey(self, hosts: Iterable[str], deep: bool = False) -> dict[str, Observation]:
        addresses = {name: PLAN.get(name, name) for name in hosts}
        return {
            name: Observation(name, address, survey=LAB.survey(int(address[-1]) - 1))
            for name, address in addresses.items()
        }


_NO_AGENT: AgentFile = object()  # type: ignore[assignment]


def test_a_host_found_by_its_address_gets_the_plans_name() -> None:
    fleet = Seen(HostSpec("master-1", "10.0.0.1", user="core"), HostSpec("10.0.0.2", jump="b"))
    fleet.add(PLAN)
    assert set(fleet.specs) == set(PLAN)
    assert fleet.specs["master-2"] == HostSpec("master-2", "10.0.0.2", jump="b")


def test_a_host_that_nobody_knows_is_added_like_the_first_one() -> None:
    fleet = Seen(HostSpec("master-1", "10.0.0.1", user="core"))
    fleet.add({**PLAN, "master-1": "elsewhere"})
    assert fleet.specs["master-2"] == HostSpec("master-2", "10.0.0.2", user="core")
    assert fleet.specs["master-1"].address == "10.0.0.1"


@pytest.mark.parametrize("names", [("10.0.0.2", "master-2"), ("master-2", "10.0.0.2")])
def test_one_machine_under_two_names_is_what_the_plan_calls_it(names: tuple[str, ...]) -> None:
    fleet = Seen(HostSpec("master-1", "10.0.0.1"), *(HostSpec(name) for name in names))
    fleet.add({"master-1": "master-1", "master-2": "master-2"})
    assert {o.host for o in fleet.observe()} == {"master-1", "master-2"}
    assert fleet.to_lock(["master-2"]) == ["master-1", "master-2", "master-3"]


def test_without_a_plan_both_names_stay_and_each_machine_is_locked_once() -> None:
    fleet = Seen(HostSpec("master-1", "10.0.0.1"), HostSpec("10.0.0.1"), HostSpec("10.0.0.2"))
    assert len(fleet.observe()) == 3
    # No inventory names the third one; the member list does.
    assert fleet.to_lock([]) == ["master-1", "10.0.0.2", "master-3"]
    assert fleet.to_lock(["10.0.0.1"]) == ["10.0.0.1", "10.0.0.2", "master-3"]
