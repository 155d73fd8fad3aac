"""Hints for etcdctl's words, words after `--`, and what goes from host to host beside a plan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.errors import RescueError
from agent.model.catalog.openshift4_machine import ON_THE_API
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from coordinator.courier import brought_for
from coordinator.rest import rest_of
from coordinator.tasks.members import hints

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("member remove 8e9e05c52164694d", "fab remove-member"),
        ("--endpoints=x member remove 1", "fab remove-member"),
        ("member --write-out=table list", ""),
        ("snapshot restore a.db", "fab restore"),
        ("snapshot save a.db", "fab snapshot"),
        ("alarm disarm", "fab clear-alarm"),
        ("alarm list", ""),
        ("del /registry --prefix", "fab snapshot"),
        ("get del", "fab snapshot"),
        ("endpoint health", ""),
    ],
)
def test_what_is_safer_is_named_and_nothing_forbidden(words: str, told: str) -> None:
    found = hints(words.split())
    assert any(told in text for text in found) if told else found == []


def test_the_rest_is_taken_as_it_was_typed() -> None:
    argv = ["fab", "-H", "a", "etcdctl", "--", "put", "k", "a b; $(x)", "--", "-w"]
    assert rest_of(argv) == ("put", "k", "a b; $(x)", "--", "-w")
    assert rest_of(["fab", "survey"]) == ()


def fab(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fabric", *words]
    return subprocess.run(argv, cwd=ROOT, text=True, capture_output=True, check=False)


def test_words_after_dashes_are_no_shell_command_of_anybody() -> None:
    refused = fab("-H", "nohost.invalid", "survey", "--", "id")
    assert refused.returncode == 2
    assert "fab etcdctl" in refused.stderr
    missing = fab("-H", "nohost.invalid", "etcdctl", "--")
    assert missing.returncode == 2
    assert "no words for etcdctl" in missing.stderr


# ---- what is brought -----------------------------------------------------------------------------


class Lending:
    """A fleet that was asked once."""

    kubeconfig = ""
    api_patience = 0

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def call(self, *asked: Any) -> dict[str, str]:
        self.asked.append(asked)
        return {"certificate": "C", "key": "K"}


def plan_of(*steps: Step) -> Plan:
    hosts = {step.host: "" for step in steps}
    return Plan(FORMAT, "r", "s", 1.0, hosts, (Stage("all", steps),), Promise(())).with_id()


LEND = Step("01", "m1", "check_authority", {"fingerprint": "ab"}, "r")
BRING = Step("02", "m2", "install_authority", {"source": "m1", "fingerprint": "ab"}, "r")
ISSUE = Step("03", "m2", "issue_certificates", {"roles": ["peer"]}, "r")


def test_a_ca_is_asked_of_the_host_that_the_plan_names() -> None:
    fleet: Any = Lending()
    plan = plan_of(LEND, BRING, ISSUE)
    assert brought_for(BRING, plan, fleet, 7) == {"secrets": {"certificate": "C", "key": "K"}}
    ((host, verb, asked, _timeout),) = fleet.asked
    assert (host, verb) == ("m1", "lend_ca")
    assert asked == {"plan": plan.id, "step": "01", "token": 7}


def test_every_other_step_goes_alone() -> None:
    fleet: Any = Lending()
    for step in (LEND, ISSUE):
        assert brought_for(step, plan_of(LEND, BRING, ISSUE), fleet, 7) == {}
    assert fleet.asked == []


def test_a_plan_that_names_no_lender_brings_nothing() -> None:
    fleet: Any = Lending()
    with pytest.raises(RescueError, match="lends its CA"):
        brought_for(BRING, plan_of(BRING), fleet, 7)
    assert fleet.asked == []


@pytest.mark.parametrize("action", sorted(ON_THE_API))
def test_what_asks_the_api_gets_the_operators_own_kubeconfig_along(action: str) -> None:
    fleet: Any = Lending()
    step = Step("01", "m1", action, {}, "r")
    assert brought_for(step, plan_of(step), fleet, 7) == {}
    fleet.kubeconfig, fleet.api_patience = "kind: Config", 5
    brought = {"secrets": {"kubeconfig": "kind: Config"}, "api_patience": 5}
    assert brought_for(step, plan_of(step), fleet, 7) == brought
    assert brought_for(LEND, plan_of(LEND, step), fleet, 7) == {}
