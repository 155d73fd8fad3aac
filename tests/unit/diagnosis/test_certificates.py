"""Which certificates are made anew, with whose CA, and when it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent.diagnosis.cluster import diagnose, diagnose_host
from agent.model.facts import Certificate, Observation
from agent.model.verdict import ClusterState, Diagnosis
from tests.unit.builders import NOW, Lab, cause, with_survey

LAB = Lab(3)
PKI = "/etc/kubernetes/pki/etcd"
OURS, OTHER = "aa" * 32, "bb" * 32
EXPIRED = ("expired 2 d 3 h ago",)


def certificates(
    bad: Mapping[str, tuple[str, ...]] | None = None, key: str = "present", ca: str = OURS
) -> tuple[Certificate, ...]:
    """All of a kubeadm host; bad: role → problems."""
    found = []
    for role in ("server", "peer", "client", "ca"):
        problems = (bad or {}).get(role, ())
        made = Certificate(f"{PKI}/{role}.crt", role, not_after=NOW + 1e6, problems=problems)
        found.append(replace(made, fingerprint=ca, key=key) if role == "ca" else made)
    return tuple(found)


def lab(changed: Observation, number: int = 1) -> list[Observation]:
    """Three hosts with good certificates, one of them changed."""
    found = [with_survey(LAB.healthy(n), certificates=certificates()) for n in range(3)]
    found[number] = changed
    return found


def looping(number: int = 1, **given: Any) -> Observation:
    return LAB.crash_looping(number, cause(), **given)


def advice(observations: Sequence[Observation], host: str = "master-2") -> tuple[str, str]:
    """(recipe, what a refusal says and advises)."""
    recipe, _, refusal = diagnose_host(diagnose(observations), host)
    return recipe, f"{refusal.seen} | {refusal.why} | {refusal.next}" if refusal else ""


@pytest.mark.parametrize("problem", [
    "missing", "expired 2 d ago", "its names do not cover 10.0.0.2 (it has: m9)",
    "its key /x.key is missing", "does not chain to /ca.crt: it was issued by CN=other",
    "its extended key usage lacks clientAuth, needed as peer",
])  # fmt: skip
@pytest.mark.parametrize("role", ["server", "peer"])
def test_a_member_that_is_down_for_its_certificates_gets_new_ones(role: str, problem: str) -> None:
    host = looping(certificates=certificates({role: (problem,)}))
    assert advice(lab(host)) == ("renew-certificates", "")
    diagnosis = diagnose(lab(host))
    assert (diagnosis.recipe, diagnosis.target) == ("renew-certificates", "master-2")


def test_a_stopped_one_gets_them_before_it_is_started() -> None:
    host = LAB.stopped(1, certificates=certificates({"peer": EXPIRED}))
    assert advice(lab(host)) == ("renew-certificates", "")
    observations = [LAB.stopped(n) for n in range(3)]
    bad = certificates({"server": EXPIRED})
    diagnosis = diagnose([with_survey(o, certificates=bad) for o in observations])
    assert (diagnosis.state, diagnosis.recipe) == (ClusterState.QUORUM_LOST, "renew-certificates")


def test_one_that_serves_still_gets_them_too() -> None:
    host = with_survey(LAB.healthy(1), certificates=certificates({"peer": EXPIRED}))
    diagnosis = diagnose(lab(host))
    assert diagnosis.state is ClusterState.HEALTHY
    assert advice(lab(host)) == ("renew-certificates", "")


def test_one_that_ends_soon_is_warned_about_and_left() -> None:
    soon = certificates({"peer": ("warning: expires in 3 d",)})
    host = with_survey(LAB.healthy(1), certificates=soon)
    assert advice(lab(host)) == ("", "")
    assert any("expires in 3 d" in text for text in diagnose(lab(host)).warnings)


def test_one_beyond_repair_is_replaced_with_new_ones_made_first() -> None:
    host = LAB.wiped(1, certificates=certificates({"server": EXPIRED}), causes=(cause(),))
    assert advice(lab(host)) == ("replace-member", "")


def test_the_key_of_the_ca_comes_from_another_host() -> None:
    host = looping(certificates=certificates({"peer": EXPIRED}, key="missing"))
    found = diagnose(lab(host)).member("master-2")
    assert found is not None
    assert found.certificates is not None
    assert found.certificates.lender == "master-1"
    assert advice(lab(host)) == ("renew-certificates", "")


def test_a_ca_that_is_not_that_of_the_others_issues_nothing() -> None:
    host = looping(certificates=certificates({"peer": EXPIRED}, ca=OTHER))
    found = diagnose(lab(host)).member("master-2")
    assert found is not None
    assert found.certificates is not None
    assert found.certificates.lender == "master-1"


def test_a_wrong_path_is_mended_in_the_definition() -> None:
    problem = f"missing; its key belongs to {PKI}/server.crt"
    recipe, said = advice(lab(looping(certificates=certificates({"server": (problem,)}))))
    assert recipe == ""
    assert "the path is wrong, not the certificate" in said
    assert "put the right path into /etc/kubernetes/manifests/etcd.yaml" in said


def test_without_the_key_anywhere_it_is_refused() -> None:
    observations = [
        with_survey(LAB.healthy(n), certificates=certificates(key="missing")) for n in range(3)
    ]
    observations[1] = looping(certificates=certificates({"peer": EXPIRED}, key="missing"))
    recipe, said = advice(observations)
    assert recipe == ""
    assert "no host that could be surveyed has the key" in said
    assert "ca.key" in said


def test_a_ca_that_has_ended_issues_nothing() -> None:
    bad = certificates({"ca": EXPIRED, "peer": EXPIRED})
    observations = [with_survey(LAB.healthy(n), certificates=bad) for n in range(3)]
    recipe, said = advice(observations)
    assert (recipe, "the CA itself has ended" in said) == ("", True)


@pytest.mark.parametrize("off", [0.0, 59.0, 61.0, -61.0])
def test_nothing_is_made_by_a_clock_that_is_off(off: float) -> None:
    host = looping(certificates=certificates({"peer": EXPIRED}))
    observations = [replace(o, clock=(0.0, 0.0)) for o in lab(host)]
    observations[1] = replace(observations[1], clock=(off, off))
    recipe, said = advice(observations)
    if abs(off) < 60:
        assert (recipe, said) == ("renew-certificates", "")
        return
    assert recipe == ""
    assert "the clock of master-2 is 61.0 s" in said
    assert "set the clock of master-2" in said


def test_a_certificate_of_the_future_is_a_matter_of_clocks() -> None:
    ahead = ("not valid before 2 h from now: is this host's clock right?",)
    recipe, said = advice(lab(looping(certificates=certificates({"peer": ahead}))))
    assert recipe == ""
    assert "set the clock" in said


def test_no_ca_is_lent_by_a_host_whose_clock_is_off() -> None:
    host = looping(certificates=certificates({"peer": EXPIRED}, key="missing"))
    observations = [replace(o, clock=(0.0, 0.0)) for o in lab(host)]
    observations[0] = replace(observations[0], clock=(500.0, 500.0))
    found = diagnose([observations[0], replace(observations[1], clock=None), observations[2]])
    verdict = found.member("master-2")
    assert verdict is not None
    assert verdict.certificates is not None
    assert verdict.certificates.lender in ("", "master-3")


def test_another_kind_of_installation_is_left_to_its_own_way() -> None:
    plain = tuple(replace(c, key="") for c in certificates({"peer": EXPIRED}))
    recipe, said = advice(lab(looping(certificates=plain)))
    assert recipe == ""
    assert "at no place that kubeadm" in said


def all_expired(*states: str) -> list[Observation]:
    bad = certificates({"server": EXPIRED, "peer": EXPIRED})
    made = {"looping": looping, "waiting": LAB.waiting}
    found = [made[state](n) for n, state in enumerate(states)]
    return [with_survey(o, certificates=bad) for o in found]


@pytest.mark.parametrize(
    "states", [("looping",) * 3, ("waiting",) * 3, ("looping", "waiting", "looping")]
)
def test_all_ended_at_once_is_no_case_for_a_reseed(states: tuple[str, ...]) -> None:
    diagnosis = diagnose(all_expired(*states))
    assert diagnosis.state in (ClusterState.QUORUM_LOST, ClusterState.UNKNOWN)
    assert (diagnosis.recipe, diagnosis.target) == ("renew-certificates", "master-1")
    assert [r.recipe for r in diagnosis.refusals] == ["reseed"]
    for number in range(3):
        assert advice(all_expired(*states), LAB.host(number)) == ("renew-certificates", "")


def test_too_few_that_could_be_mended_give_no_quorum() -> None:
    observations = [looping(0, certificates=certificates({"peer": EXPIRED}))]
    observations += [LAB.unreachable(n) for n in (1, 2)]
    diagnosis: Diagnosis = diagnose(observations)
    assert diagnosis.recipe != "renew-certificates"
