"""Two hosts, two consoles, a stick: what is done is proved, and what is not proved is not done."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.entry import cli
from agent.entry.stick import plan_name
from agent.entry.verbs import VERBS
from agent.errors import Locked
from agent.model.plan import Plan, plan_to_plain
from agent.model.signed import NAMESPACE
from agent.records.journal import Journal, journal_path
from agent.records.locks import read_lock
from agent.runner import single_step_plan
from tests.unit.entry.consoles import (
    BACK_AND_FORTH,
    DAMAGED,
    LOCKED,
    OK,
    PARK,
    PAUSED,
    REFUSED,
    STICK,
    UNPARK,
    USAGE,
    Consoles,
    give,
    plan_of,
)
from tests.unit.entry.consoles import consoles as consoles
from tests.unit.entry.consoles import fits as fits
from tests.unit.records.test_signing import Here
from tests.unit.rooted import MANIFEST, picture


@pytest.mark.usefixtures("fits")
def test_a_plan_goes_from_console_to_console(consoles: Consoles) -> None:
    plan = BACK_AND_FORTH
    before = {name: picture(consoles.root / name, MANIFEST) for name in ("m0", "m1")}
    give(consoles, "m0", plan)
    said = consoles.apply("m0", plan, code=PAUSED)
    assert "carry the stick to m1, and type there:" in said
    assert f"rescue-agent apply {plan.short_id} --stick {STICK}" in said
    assert consoles.is_parked("m0")
    assert "carry the stick to m1" in consoles.apply("m0", plan, code=REFUSED)
    assert "carry the stick to m0" in consoles.apply("m1", plan, code=PAUSED)
    assert consoles.is_parked("m1")
    assert "step 02 (unpark definition) on m0" in consoles.apply("m1", plan, code=REFUSED)
    assert "carry the stick to m1" in consoles.apply("m0", plan, code=PAUSED)
    said = consoles.apply("m1", plan)
    assert f"plan {plan.short_id} is complete on m1" in said
    assert "open still on m0" in said
    assert f"plan {plan.short_id} is complete on m0" in consoles.apply("m0", plan)
    assert "nothing to do" in consoles.apply("m1", plan)
    for name in ("m0", "m1"):
        assert picture(consoles.root / name, MANIFEST) == before[name]
        lock = read_lock(consoles.host(name))
        assert lock is not None
        assert lock.plan == ""


@pytest.mark.usefixtures("fits")
def test_what_is_not_proved_is_not_done(consoles: Consoles) -> None:
    plan = BACK_AND_FORTH
    give(consoles, "m1", plan)
    before = picture(consoles.root / "m1", "/etc", "/var")
    said = consoles.apply("m1", plan, code=REFUSED)
    assert "step 00 (park definition) on m0: nothing was carried here from it" in said
    assert "carry the stick to m0" in said
    after = picture(consoles.root / "m1", "/etc", "/var")
    assert after == before


@pytest.mark.usefixtures("fits")
def test_a_host_proves_its_own_steps_and_no_others(consoles: Consoles) -> None:
    """A journal that claims what is another host's to do is not believed in that."""
    plan = plan_of(("m0", PARK), ("m0", UNPARK), ("m1", PARK))
    give(consoles, "m1", plan)
    liar = Journal.create(consoles.host("m0"), plan)
    for step in ("00", "02"):
        liar.append("intent", step)
        liar.append("done", step)
    consoles.type("m0", "export", STICK)
    assert "step 01" in consoles.apply("m1", plan, code=REFUSED)
    assert not consoles.is_parked("m1")


@pytest.mark.usefixtures("fits")
def test_a_changed_file_proves_nothing(consoles: Consoles) -> None:
    plan = BACK_AND_FORTH
    give(consoles, "m0", plan)
    consoles.apply("m0", plan, code=PAUSED)
    file = consoles.root / "m0" / STICK[1:] / "carried-m0.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().replace('"m0"', '"m9"', 1))
    said = consoles.apply("m1", plan, code=DAMAGED)
    assert "its hash does not match" in said
    assert "rescue-agent export DIRECTORY" in said
    assert not consoles.is_parked("m1")


@pytest.mark.usefixtures("fits")
def test_one_console_is_not_another(consoles: Consoles) -> None:
    plan = plan_of(("m0", PARK), ("m1", PARK))
    give(consoles, "m1", plan)
    other = Plan(**{**vars(plan), "hosts": {"m0": "198.51.100.1", "m1": "198.51.100.2"}}).with_id()
    give(consoles, "m1", other)
    said = consoles.apply("m1", other, "--host", "m0", code=REFUSED)
    assert "m1 is not m0" in said
    assert "knows no host m7" in consoles.apply("m1", other, "--host", "m7", code=USAGE)
    (consoles.root / "m1/etc/hostname").write_text("stranger\n")
    said = consoles.apply("m1", other, code=USAGE)
    assert "does not know stranger" in said
    assert "--host NAME" in said
    assert not consoles.is_parked("m1")


@pytest.mark.usefixtures("fits")
def test_an_interrupted_step_is_finished_or_taken_back(consoles: Consoles) -> None:
    """Its intent is in the journal, and nothing else: as after a power cut."""
    plan = plan_of(("m0", PARK), ("m1", PARK))
    give(consoles, "m0", plan)
    host = consoles.host("m0")
    before = picture(consoles.root / "m0", MANIFEST)
    for verb, codes in (("rollback", OK), ("resume", PAUSED)):
        journal = Journal.create(host, plan)
        if journal.state != "open":
            journal.append("reopened")
        dry = single_step_plan(host, PARK, {})
        assert dry.steps()
        from agent.actions.definitions import file_hash

        undo = {"path": MANIFEST, "sha256": file_hash(host, MANIFEST),
                "parked": f"/var/lib/etcd-rescue/parked/{plan.short_id}-00-etcd.yaml"}  # fmt: skip
        journal.append("intent", "00", undo)
        words = ["--alone"] if verb == "rollback" else []
        consoles.type("m0", verb, plan.short_id, "--stick", STICK, *words, code=codes)
        assert consoles.is_parked("m0") == (verb == "resume")
        if verb == "rollback":
            assert picture(consoles.root / "m0", MANIFEST) == before


@pytest.mark.usefixtures("fits")
def test_nothing_is_taken_back_that_another_host_stands_on(consoles: Consoles) -> None:
    plan = BACK_AND_FORTH
    give(consoles, "m0", plan)
    consoles.apply("m0", plan, code=PAUSED)
    rollback = ("rollback", plan.short_id, "--stick", STICK)
    said = consoles.type("m0", *rollback, code=REFUSED)
    assert "nothing was carried here from m1" in said
    assert "--alone" in said
    consoles.apply("m1", plan, code=PAUSED)
    said = consoles.type("m0", *rollback, code=REFUSED)
    assert "step 01 (park definition) on m1 was begun" in said
    assert "carry the stick to m1" in said
    assert consoles.is_parked("m0")
    said = consoles.type("m1", *rollback)
    assert "carry the stick to m0" in said
    assert not consoles.is_parked("m1")
    said = consoles.apply("m0", plan, code=REFUSED)
    assert "was taken back on m1" in said
    consoles.type("m0", *rollback)
    assert not consoles.is_parked("m0")
    for name in ("m0", "m1"):
        assert Journal.open(consoles.host(name), plan.id).state == "rolled-back"
        assert "nothing to take back" in consoles.type(name, *rollback)


@pytest.mark.usefixtures("fits")
def test_past_the_point_of_no_return_nothing_is_taken_back_anywhere(consoles: Consoles) -> None:
    plan = plan_of(("m1", PARK), ("m0", PARK), ("m1", UNPARK), final=1)
    give(consoles, "m1", plan)
    consoles.apply("m1", plan, code=PAUSED)
    consoles.apply("m0", plan, code=PAUSED)
    for name in ("m0", "m1"):
        said = consoles.type(name, "rollback", plan.short_id, "--stick", STICK, code=REFUSED)
        assert "point of no return" in said
        assert f"rescue-agent resume {plan.short_id}" in said
        assert consoles.is_parked(name)


@pytest.mark.usefixtures("fits")
def test_a_restored_disk_is_found_out(consoles: Consoles) -> None:
    """The file that left this host knows more than its journal does."""
    plan = BACK_AND_FORTH
    give(consoles, "m0", plan)
    consoles.apply("m0", plan, code=PAUSED)
    path = consoles.root / "m0" / journal_path(plan.id)[1:]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1]))
    said = consoles.apply("m0", plan, code=REFUSED)
    assert "knows more of plan" in said


@pytest.mark.usefixtures("fits")
def test_each_visit_carries_a_larger_token_than_any_known(consoles: Consoles) -> None:
    plan = BACK_AND_FORTH
    give(consoles, "m0", plan)
    tokens = []
    for name in ("m0", "m1", "m0"):
        consoles.apply(name, plan, code=PAUSED)
        lock = read_lock(consoles.host(name))
        assert lock is not None
        assert lock.plan == plan.id
        tokens.append(lock.token)
    assert tokens == sorted(set(tokens))


@pytest.mark.usefixtures("fits")
def test_a_coordinator_from_before_is_shut_out(consoles: Consoles) -> None:
    """Its run was at work when the console took its plan over; its orders come too late."""
    plan = BACK_AND_FORTH
    give(consoles, "m0", plan)
    host, order = consoles.host("m0"), {"plan": plan.id, "token": 7, "run": "ann's"}
    begun = {**order, "plan": plan_to_plain(plan), "holder": "ann@desk pid 1"}
    VERBS["begin"](host, begun, print)
    said = consoles.apply("m0", plan, code=PAUSED)
    assert "taken over from ann@desk pid 1, who was at work on it" in said
    with pytest.raises(Locked, match="this order carries 7"):
        VERBS["step"](host, {**order, "step": "02"}, print)
    assert consoles.is_parked("m0")


@pytest.mark.usefixtures("fits")
def test_another_plan_that_holds_the_host_is_in_the_way(consoles: Consoles) -> None:
    first, second = BACK_AND_FORTH, plan_of(("m0", PARK), ("m1", UNPARK))
    give(consoles, "m0", first)
    give(consoles, "m0", second)
    consoles.apply("m0", first, code=PAUSED)
    said = consoles.apply("m0", second, code=LOCKED)
    assert "holds this host" in said
    assert "fab" not in said
    assert "rescue-agent resume" in said


@pytest.mark.usefixtures("fits")
def test_a_look_that_finds_something_wrong_closes_what_was_begun_nowhere(
    consoles: Consoles,
) -> None:
    """With nothing changed and no other host in it, no lock is left behind; else it stays open."""
    plan = plan_of(("m0", "copy_data"), ("m1", "copy_data"))  # which needs a stopped etcd
    give(consoles, "m0", plan)
    said = consoles.apply("m0", plan, code=REFUSED)
    assert "the plan is closed" in said
    lock = read_lock(consoles.host("m0"))
    assert lock is not None
    assert lock.plan == ""
    later = plan_of(("m0", PARK), ("m1", "copy_data"))
    give(consoles, "m0", later)
    consoles.apply("m0", later, code=PAUSED)
    said = consoles.apply("m1", later, code=REFUSED)
    assert "the plan is closed" not in said
    assert Journal.open(consoles.host("m1"), later.id).state == "open"


@pytest.mark.usefixtures("fits")
def test_a_host_given_up_is_waited_for_no_more(consoles: Consoles) -> None:
    plan = plan_of(("m0", PARK), ("m1", PARK), ("m0", UNPARK))
    give(consoles, "m0", plan)
    consoles.apply("m0", plan, code=PAUSED)
    assert "no host m7" not in consoles.apply("m0", plan, "--drop", "m7", code=USAGE)
    said = consoles.apply("m0", plan, "--drop", "m1")
    assert f"plan {plan.short_id} is complete on m0" in said
    assert not consoles.is_parked("m0")


def test_a_plan_that_fits_no_more_is_refused(consoles: Consoles) -> None:
    give(consoles, "m0", BACK_AND_FORTH)
    before = picture(consoles.root / "m0", "/etc", "/var")
    said = consoles.apply("m0", BACK_AND_FORTH, code=REFUSED)
    assert "does not fit" in said
    assert picture(consoles.root / "m0", "/etc", "/var") == before


# ---- signed plans --------------------------------------------------------------------------------


@pytest.fixture
def demand(
    consoles: Consoles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Plan, str], None]:
    """Make m1 take signed plans only; gives what signs a plan's file on the stick."""
    if not shutil.which("ssh-keygen"):
        pytest.skip("needs ssh-keygen")
    monkeypatch.setattr(cli, "Host", Here)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    conf = consoles.root / "m1/etc/etcd-rescue"
    conf.mkdir(mode=0o755)
    public = key.with_suffix(".pub").read_text()
    (conf / "policy.yaml").write_text("require_signed_plans: true\n")
    (conf / "allowed_signers").write_text(f'ann namespaces="{NAMESPACE}" {public}')
    for path in conf.iterdir():
        path.chmod(0o644)

    def sign(plan: Plan, name: str) -> None:
        file = consoles.root / name / STICK[1:] / plan_name(plan)
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(file)]
        subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)

    return sign


@pytest.mark.usefixtures("fits")
def test_a_host_that_demands_a_signature_gets_one_from_the_stick(
    consoles: Consoles, demand: Callable[[Plan, str], None]
) -> None:
    plan = BACK_AND_FORTH
    give(consoles, "m0", plan)
    consoles.apply("m0", plan, code=PAUSED)
    said = consoles.apply("m1", plan, code=REFUSED)
    assert "is not signed" in said
    assert f"ssh-keygen -Y sign -n {NAMESPACE}" in said
    assert not consoles.is_parked("m1")
    demand(plan, "m1")
    consoles.apply("m1", plan, code=PAUSED)
    assert consoles.is_parked("m1")
