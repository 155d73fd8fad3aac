"""Signatures by real SSH keys, checked by the real ssh-keygen against files under a root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.entry.verbs import VERBS, run_single
from agent.errors import Locked, Refused, RescueError, Unsigned, UsageError
from agent.host import STATE_DIR
from agent.model.codec import to_plain
from agent.model.plan import Plan, plan_to_plain
from agent.model.signed import NAMESPACE, Policy, Signed, plan_of_text, plan_text
from agent.records.journal import Journal
from agent.records.signing import CONF_DIR, POLICY_FILE, SIGNERS_FILE, accept, policy_here, stored
from tests.unit.rooted import ProgramsOutside, kubeadm_host, picture, plan_of

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
WHERE = "Who may"
PLAN = plan_of(("lift_fence", {}), host="m0")
OTHER = plan_of(("lift_fence", {}), host="m0", created=2.0)
Sign = Callable[..., Signed]


class Here(ProgramsOutside):
    """A host under a prefix whose ssh-keygen is this machine's, with paths below the prefix."""

    def outside(self, argv: Sequence[str]) -> list[str]:
        return [self.real(word) if word.startswith(STATE_DIR) else word for word in argv]

    def which(self, name: str) -> str:
        return shutil.which(name) or ""


@dataclass(frozen=True)
class Key:
    path: Path

    @property
    def public(self) -> str:
        return " ".join(Path(f"{self.path}.pub").read_text().split()[:2])

    def sign(self, text: str, namespace: str = NAMESPACE) -> Signed:
        done = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.path)],
            input=text.encode(), capture_output=True, check=True,
        )  # fmt: skip
        return Signed(text, done.stdout.decode())


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    directory, made = tmp_path_factory.mktemp("keys"), {}
    for name, kind in (("ann", "ed25519"), ("bob", "ecdsa"), ("eve", "ed25519")):
        path = directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
        made[name] = Key(path)
    return made


@pytest.fixture
def host(tmp_path: Path) -> Here:
    return Here(kubeadm_host(tmp_path).root)


@pytest.fixture
def signers(keys: dict[str, Key]) -> str:
    return f"ann@example.org {keys['ann'].public}\nbob@example.org {keys['bob'].public}\n"


def demand(host: Here, signers: str, policy: str = "require_signed_plans: true\n") -> None:
    """Give a host a policy of its own."""
    for path, text in ((POLICY_FILE, policy), (SIGNERS_FILE, signers)):
        place = Path(host.root + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.parent.chmod(0o755)
        place.write_text(text)
        place.chmod(0o644)


def begin(host: Here, plan: Plan, signed: Signed | None = None, token: int = 1, **more: Any) -> Any:
    args = {"plan": plan_to_plain(plan), "holder": "ops", "token": token, "signed": signed, **more}
    return VERBS["begin"](host, to_plain(args), print)


# ---- what is accepted ----------------------------------------------------------------------------


@pytest.mark.reliability(
    WHERE, "a plan signed by one who may sign is taken, and who signed is kept"
)
@pytest.mark.parametrize("who", ["ann", "bob"])
def test_a_signed_plan_is_taken(host: Here, keys: dict[str, Key], signers: str, who: str) -> None:
    demand(host, signers)
    signed = keys[who].sign(plan_text(PLAN))
    assert begin(host, PLAN, signed)["state"] == "open"
    (record,) = VERBS["journal"](host, {"plan": PLAN.id}, print)
    assert (record["kind"], record["data"]) == ("signed", {"principal": f"{who}@example.org"})
    assert VERBS["signature"](host, {"plan": PLAN.id}, print) == to_plain(signed)
    step = {"plan": PLAN.id, "step": "01", "token": 1}
    assert VERBS["step"](host, step, print)["outcome"] == "done"
    assert not Path(host.root + STATE_DIR, "work/signing").exists()


def test_without_a_policy_nothing_is_asked(host: Here) -> None:
    assert begin(host, PLAN)["state"] == "open"
    assert VERBS["signature"](host, {"plan": PLAN.id}, print) is None


# ---- what is refused -----------------------------------------------------------------------------


def refusal(host: Here, plan: Plan, signed: Signed | None, **more: Any) -> str:
    """What is said; nothing may be there afterwards."""
    before = picture(Path(host.root), "/etc", "/var/lib/etcd")
    with pytest.raises(Unsigned) as caught:
        begin(host, plan, signed, **more)
    assert picture(Path(host.root), "/etc", "/var/lib/etcd") == before
    assert VERBS["journal"](host, {}, print) == []
    assert VERBS["lock"](host, {}, print) is None
    assert caught.value.exit_code == 3
    assert caught.value.why
    assert caught.value.next
    return caught.value.seen


@pytest.mark.reliability(WHERE, "an unsigned plan is refused by the agent, whatever asks for it")
def test_an_unsigned_plan_is_refused(host: Here, signers: str) -> None:
    demand(host, signers)
    assert "is not signed" in refusal(host, PLAN, None)
    assert "is not signed" in refusal(host, PLAN, Signed(plan_text(PLAN), ""))


@pytest.mark.reliability(WHERE, "a plan altered in any byte after it was signed is refused")
def test_every_single_byte_is_covered(
    host: Here, keys: dict[str, Key], signers: str, figure: Any
) -> None:
    demand(host, signers)
    text = plan_text(PLAN)
    good = keys["ann"].sign(text)
    places = range(0, len(text), max(len(text) // 40, 1))
    for place in places:
        altered = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        with pytest.raises((Unsigned, UsageError)):  # it may be no plan any more, or another one
            begin(host, PLAN, Signed(altered, good.signature))
    for more in (" ", "\n", "\r\n"):
        assert "not good for this plan" in refusal(host, PLAN, Signed(text + more, good.signature))
    assert begin(host, PLAN, good)["state"] == "open"
    figure("bytes altered in signed plans, each refused", len(places) + 3)


@pytest.mark.reliability(
    WHERE, "a signature for another plan, purpose or by an unknown key is none"
)
def test_other_plans_purposes_and_keys(host: Here, keys: dict[str, Key], signers: str) -> None:
    demand(host, signers)
    text = plan_text(PLAN)
    assert "not plan" in refusal(host, PLAN, keys["ann"].sign(plan_text(OTHER)))
    assert "not good" in refusal(host, PLAN, keys["ann"].sign(text, "file"))
    assert "may not sign now" in refusal(host, PLAN, keys["eve"].sign(text))
    broken = Signed(text, keys["ann"].sign(text).signature.replace("A", "B"))
    assert "not good" in refusal(host, PLAN, broken)
    assert "not good" in refusal(host, PLAN, Signed(text, "no signature"))


@pytest.mark.reliability(
    WHERE, "a key that has expired, is not valid yet or was revoked is refused"
)
def test_times_and_revocation(host: Here, keys: dict[str, Key]) -> None:
    key, signed = keys["ann"], keys["ann"].sign(plan_text(PLAN))
    for times in ('valid-before="20200101"', 'valid-after="20990101"'):
        demand(host, f"ann@example.org {times} {key.public}\n")
        assert "may not sign now" in refusal(host, PLAN, signed)
    demand(host, f'ann@example.org namespaces="file" {key.public}\n')
    assert "SHA256:" in refusal(host, PLAN, signed)
    demand(host, f"ann@example.org {key.public}\n")
    revoked = Path(host.root + CONF_DIR, "revoked_signers")
    revoked.write_text(f"{key.public}\n")
    revoked.chmod(0o644)
    assert "not accepted" in refusal(host, PLAN, signed)
    revoked.unlink()
    elsewhere = Policy(revoked=f"{key.public}\n", allowed_signers=f"x {key.public}\n", source="c")
    assert "not accepted" in refusal(host, PLAN, signed, policy=elsewhere)


@pytest.mark.reliability(WHERE, "of the host's policy and the operator's the stricter one wins")
def test_the_stricter_policy_wins(host: Here, keys: dict[str, Key], signers: str) -> None:
    text = plan_text(PLAN)
    ann, eve = f"a {keys['ann'].public}\n", f"e {keys['eve'].public}\n"
    theirs = Policy(True, ann, "", "cluster.yaml")
    assert "cluster.yaml" not in refusal(host, PLAN, None, policy=theirs)
    assert "may not sign" in refusal(host, PLAN, keys["eve"].sign(text), policy=theirs)
    demand(host, signers)
    lax = Policy(False, eve, "", "cluster.yaml")
    assert "is not signed" in refusal(host, PLAN, None, policy=lax)
    assert "may not sign" in refusal(host, PLAN, keys["eve"].sign(text), policy=lax)
    assert "may not sign" in refusal(host, PLAN, keys["ann"].sign(text), policy=lax)
    demand(host, signers, "require_signed_plans: false\n")
    assert "may not sign" in refusal(host, PLAN, keys["eve"].sign(text))
    assert begin(host, PLAN, keys["ann"].sign(text), policy=theirs)["state"] == "open"


def test_nobody_named_is_nobody_allowed(host: Here, keys: dict[str, Key]) -> None:
    demand(host, "")
    assert "nothing says who" in refusal(host, PLAN, keys["ann"].sign(plan_text(PLAN)))


@pytest.mark.parametrize(
    "text", ["", "[]", "require_signed_plans: 1\n", "other: true\n", "{", "a: *b\n", "!!python/x a"]
)
def test_a_policy_that_cannot_be_read_lets_nothing_through(
    host: Here, signers: str, text: str
) -> None:
    demand(host, signers, text)
    with pytest.raises(Refused, match=r"policy\.yaml"):
        begin(host, PLAN)
    assert VERBS["journal"](host, {}, print) == []


@pytest.mark.parametrize("path", [POLICY_FILE, SIGNERS_FILE, CONF_DIR])
def test_a_policy_that_others_may_write_is_none(host: Here, signers: str, path: str) -> None:
    demand(host, signers)
    Path(host.root + path).chmod(0o777)
    with pytest.raises(Refused, match="others than root may write"):
        policy_here(host)


# ---- later ---------------------------------------------------------------------------------------


@pytest.mark.reliability(WHERE, "resume and rollback hold the stored signature against the policy")
def test_a_stored_signature_is_checked_again(
    host: Here, keys: dict[str, Key], signers: str
) -> None:
    demand(host, signers)
    begin(host, PLAN, keys["ann"].sign(plan_text(PLAN)))
    assert begin(host, PLAN, token=2)["state"] == "open"  # as resume does, from another machine
    revoked = Path(host.root + CONF_DIR, "revoked_signers")
    revoked.write_text(f"{keys['ann'].public}\n")
    revoked.chmod(0o644)
    with pytest.raises(Unsigned, match="not accepted"):
        begin(host, PLAN, token=3)
    assert VERBS["lock"](host, {}, print)["token"] == 2
    assert begin(host, PLAN, keys["bob"].sign(plan_text(PLAN)), token=3)["state"] == "open"
    assert begin(host, PLAN, token=4)["state"] == "open"  # bob's counts from now on


def test_a_key_that_expires_on_the_way_carries_what_it_began(
    host: Here, keys: dict[str, Key]
) -> None:
    begun, signed = 1_672_531_200.0, keys["ann"].sign(plan_text(PLAN))  # the first of 2023
    demand(host, f'ann valid-before="20240101" {keys["ann"].public}\n')
    accepted = accept(host, PLAN, signed, Policy(), since=begun)
    assert accepted is not None
    assert accepted.principal == "ann"
    for since in (0.0, begun + 2 * 365 * 86400):
        with pytest.raises(Unsigned, match="may not sign now"):
            accept(host, PLAN, signed, Policy(), since)


def test_when_a_signature_was_accepted_is_known_from_the_journal(
    host: Here, keys: dict[str, Key], signers: str
) -> None:
    demand(host, signers)
    signed = keys["ann"].sign(plan_text(PLAN))
    begin(host, PLAN, signed)
    (record,) = VERBS["journal"](host, {"plan": PLAN.id}, print)
    assert stored(Journal.open(host, PLAN.id)) == (signed, record["time"])


def test_a_policy_that_comes_later_stops_a_plan_that_was_begun_unsigned(
    host: Here, keys: dict[str, Key], signers: str
) -> None:
    begin(host, PLAN)
    demand(host, signers)
    with pytest.raises(Unsigned, match="is not signed"):
        VERBS["step"](host, {"plan": PLAN.id, "step": "01", "token": 1}, print)
    begin(host, PLAN, keys["ann"].sign(plan_text(PLAN)), token=2)
    step = {"plan": PLAN.id, "step": "01", "token": 2}
    assert VERBS["step"](host, step, print)["outcome"] == "done"


@pytest.mark.reliability(WHERE, "a verb typed at the console is refused where plans must be signed")
def test_verbs_at_the_console_are_plans_too(host: Here, signers: str) -> None:
    demand(host, signers)
    before = picture(Path(host.root), "/etc", "/var/lib/etcd")
    with pytest.raises(Unsigned):
        run_single(host, "park_definition", {}, "root", print, dry_run=False)
    assert run_single(host, "park_definition", {}, "root", print, dry_run=True)["plan"] == ""
    assert picture(Path(host.root), "/etc", "/var/lib/etcd") == before


@pytest.mark.reliability(
    WHERE, "what changes a host beside plans is refused where they must be signed, or one is open"
)
@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("etcdctl", {"args": ["member", "remove", "1"]}),
        ("etcdctl", {"args": ["--user", "get", "del", "x"]}),
        ("run_join", {"command": ["kubeadm", "join"]}),
        ("join_command", {}),
    ],
)
def test_nothing_is_changed_beside_plans(
    host: Here, signers: str, verb: str, args: dict[str, Any]
) -> None:
    begin(host, PLAN)
    with pytest.raises(Locked, match=f"plan {PLAN.short_id} of ops holds this host"):
        VERBS[verb](host, args, print)
    demand(host, signers)
    with pytest.raises(Unsigned, match="is no part of a signed plan"):
        VERBS[verb](host, args, print)


def test_looks_are_taken_beside_plans(host: Here, signers: str) -> None:
    begin(host, PLAN)
    demand(host, signers)
    for words in (["member", "list", "-w", "table"], ["get", "x"], ["endpoint", "status"]):
        with pytest.raises(RescueError) as caught:
            VERBS["etcdctl"](host, {"args": words}, print)
        assert not isinstance(caught.value, (Unsigned, Locked))  # only no etcdctl is here


# ---- files ---------------------------------------------------------------------------------------


def test_the_text_of_a_plan_is_always_the_same() -> None:
    assert plan_of_text(plan_text(PLAN), "x") == PLAN
    assert plan_text(plan_of_text(plan_text(PLAN), "x")) == plan_text(PLAN)
    by_hand = plan_text(PLAN).replace(PLAN.id, "")
    assert plan_of_text(by_hand, "x").id == PLAN.id


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "1", '{"id": "x"}', '{"id": "", "id": ""}', "[" * 100_000, '{"a": NaN}'],
)
def test_what_is_no_plan_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UsageError):
        plan_of_text(text, "the file")
