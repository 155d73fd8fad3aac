"""Who may have a plan carried out here: its signature, held against this host's policy.

A host's own policy lies in /etc/etcd-rescue, root's and writable for root alone:

    policy.yaml        require_signed_plans: true
    allowed_signers    who may sign (ssh-keygen(1), ALLOWED SIGNERS)
    revoked_signers    public keys that are taken no more, one a line, or a KRL

The coordinator's policy (cluster.yaml) comes with the plan. The stricter of the two wins: a
signature is needed if either says so, and it must please each list of signers that there is.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Optional

import yaml

from agent.errors import CommandFailed, Refused, Unsigned
from agent.host import STATE_DIR, Host
from agent.model.codec import from_plain, to_plain
from agent.model.plan import Plan
from agent.model.signed import NAMESPACE, Policy, Signed, plan_of_text
from agent.records.journal import History, Journal

CONF_DIR = "/etc/etcd-rescue"
POLICY_FILE = f"{CONF_DIR}/policy.yaml"
SIGNERS_FILE = f"{CONF_DIR}/allowed_signers"
REVOKED_FILE = f"{CONF_DIR}/revoked_signers"
_WORK = f"{STATE_DIR}/work/signing"
_KEY = "require_signed_plans"


@dataclass(frozen=True)
class Accepted:
    """A signature that was found good, as the journal keeps it."""

    text: str
    signature: str
    principal: str


def accept(
    host: Host, plan: Plan, signed: Optional[Signed], asked: Policy, since: float = 0.0
) -> Optional[Accepted]:
    """Say who signed the plan; None where none is demanded and no list says who may.

    since: when this very signature was accepted here before (seconds since the epoch): a key that
    has expired since then still carries what it began, a revoked one does not. Raises Unsigned
    where the signature is missing, is not by a signer who may, or is of another text.
    """
    policies = [policy for policy in (policy_here(host), asked) if policy != Policy()]
    demanding = next((policy for policy in policies if policy.required), None)
    if signed is None or not (signed.text and signed.signature):
        if demanding:
            raise _missing(host, plan, demanding)
        return None
    if plan_of_text(signed.text, "the signed plan").id != plan.id:
        raise Unsigned(
            f"{host.hostname()}: the text that was signed is not plan {plan.short_id}",
            "a signature is good for the one plan that it was made for",
            "sign the plan's own file: fab plan --save FILE",
        )
    lists = [policy for policy in policies if policy.allowed_signers]
    if demanding and not lists:
        raise Unsigned(
            f"{host.hostname()}: signed plans are demanded ({demanding.source}), and nothing says "
            "who may sign",
            "a signature by anyone is worth nothing",
            f"name the signers in {SIGNERS_FILE} on the host, or as allowed_signers in "
            "cluster.yaml",
        )
    names = [_Check(host, signed, policy, since).principal() for policy in lists]
    return Accepted(signed.text, signed.signature, names[0]) if names else None


def stored(journal: History) -> tuple[Optional[Signed], float]:
    """Give the newest signature that a plan was accepted with, and when; (None, 0) for none."""
    for record in reversed(journal.records):
        if record.kind == "signed":
            accepted = from_plain(Accepted, record.data, f"{journal.path}: signature")
            return Signed(accepted.text, accepted.signature), record.time
    return None, 0.0


def accept_again(host: Host, journal: Journal) -> None:
    """Hold a stored plan against this host's policy as it is now. Raises Unsigned."""
    signed, since = stored(journal)
    accept(host, journal.plan, signed, Policy(), since)


def signed_from(data: Any) -> Optional[Signed]:
    """A signature that came with an order; None for none. Raises UsageError."""
    return None if data is None else from_plain(Signed, data, "signature")


def policy_from(data: Any) -> Policy:
    """The policy that came with an order; an empty one for none. Raises UsageError."""
    return Policy() if data is None else from_plain(Policy, data, "policy")


def to_record(accepted: Accepted) -> dict[str, Any]:
    """What the journal keeps of a signature that was accepted."""
    record: dict[str, Any] = to_plain(accepted)
    return record


# ---- this host's policy --------------------------------------------------------------------------


def policy_here(host: Host) -> Policy:
    """What this host demands. Raises Refused where a file of it could have been made by others."""
    required = False
    if host.exists(POLICY_FILE):
        required = _required(_trusted(host, POLICY_FILE))
    signers = _trusted(host, SIGNERS_FILE) if host.exists(SIGNERS_FILE) else ""
    revoked = _trusted(host, REVOKED_FILE) if host.exists(REVOKED_FILE) else ""
    if not (required or signers or revoked):
        return Policy()
    return Policy(required, signers, revoked, f"{POLICY_FILE} on {host.hostname()}")


def _required(text: str) -> bool:
    try:
        said = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        said = None
    value = said.get(_KEY) if isinstance(said, dict) and set(said) == {_KEY} else None
    if not isinstance(value, bool):
        raise Refused(
            f"{POLICY_FILE}: is not `{_KEY}: true` or `{_KEY}: false`",
            "while it cannot be read nobody can say what is allowed here",
            f"mend {POLICY_FILE} as root",
        )
    return value


def _trusted(host: Host, path: str) -> str:
    """Read a file that only root can have written."""
    for place in (CONF_DIR, path):
        info = host.stat(place)
        if info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o022:
            raise Refused(
                f"{place}: others than root may write to it",
                "it says whose plans are carried out as root",
                f"chown root {place}; chmod go-w {place}",
            )
    return host.read_text(path)


def _missing(host: Host, plan: Plan, policy: Policy) -> Unsigned:
    return Unsigned(
        f"{host.hostname()}: plan {plan.short_id} is not signed",
        f"signed plans only: {policy.source}",
        f"fab plan --save FILE; ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE; fab apply FILE",
    )


# ---- ssh-keygen ----------------------------------------------------------------------------------


class _Check:
    """One signature held against one list of signers, by the host's own ssh-keygen."""

    def __init__(self, host: Host, signed: Signed, policy: Policy, since: float) -> None:
        self._host, self._signed, self._policy, self._since = host, signed, policy, since

    def principal(self) -> str:
        """Who signed. Raises Unsigned with ssh-keygen's own words where it is not good."""
        if not self._host.which("ssh-keygen"):
            raise Unsigned(
                f"{self._host.hostname()}: no ssh-keygen here",
                "a signature that cannot be checked is none",
                "install the OpenSSH client (8.2 or newer) on that host",
            )
        self._host.makedirs(_WORK)
        try:
            self._write("plan.sig", self._signed.signature)
            self._write("allowed", self._policy.allowed_signers)
            self._write("revoked", self._policy.revoked)
            key = self._of_this_text()
            name = self._listed(key)
            self._not_revoked(name, key)
            return name
        finally:
            self._host.discard(_WORK)

    def _write(self, name: str, text: str) -> None:
        self._host.write_atomic(f"{_WORK}/{name}", text.encode(errors="backslashreplace"))

    def _keygen(self, verb: str, *words: str) -> tuple[bool, str]:
        argv = ["ssh-keygen", "-Y", verb, "-s", f"{_WORK}/plan.sig", *words]
        try:
            done = self._host.run(
                argv, ok=range(256), input=self._signed.text.encode(errors="surrogateescape")
            )
        except CommandFailed as error:
            return False, error.seen
        said = " ".join((done.stdout.strip() or done.stderr.strip()).split())
        return done.code == 0, said or f"exit code {done.code}"

    def _of_this_text(self) -> str:
        """The key of a signature that is good for this very text and purpose, whoever's it is."""
        is_good, said = self._keygen("check-novalidate", "-n", NAMESPACE)
        if not is_good:
            raise self._refuse(f"the signature is not good for this plan: {said}")
        return said.rpartition(" key ")[2] or said

    def _listed(self, key: str) -> str:
        """The name under which the list of signers has the key, now or when it was accepted."""
        allowed = ("-f", f"{_WORK}/allowed")
        is_listed, said = self._keygen("find-principals", *allowed)
        if not is_listed and self._since:
            is_listed, said = self._keygen("find-principals", *allowed, *self._then())
        if not is_listed:
            raise self._refuse(f"signed with {key}, which may not sign now: {said}")
        return said.split()[0].partition(",")[0]

    def _not_revoked(self, name: str, key: str) -> None:
        words = ["-f", f"{_WORK}/allowed", "-I", name, "-n", NAMESPACE]
        if self._policy.revoked:
            words += ["-r", f"{_WORK}/revoked"]
        is_good, said = self._keygen("verify", *words)
        if not is_good and self._since:
            is_good, said = self._keygen("verify", *words, *self._then())
        if not is_good:
            raise self._refuse(f"signed by {name} with {key}, which is not accepted: {said}")

    def _then(self) -> tuple[str, str]:
        """The time of the first acceptance; ssh-keygen takes it in the local time zone."""
        when = time.strftime("%Y%m%d%H%M%S", time.localtime(self._since))
        return "-O", f"verify-time={when}"

    def _refuse(self, seen: str) -> Unsigned:
        return Unsigned(
            f"{self._host.hostname()}: {seen}",
            f"who may sign says {self._policy.source}",
            f"have it signed by one who may: ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE",
        )
