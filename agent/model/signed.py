"""A plan as a file that can be signed with an SSH key, and who may have signed it.

The file is JSON, one value a line, so that it can be read and compared before it is signed. The
signature is what `ssh-keygen -Y sign -n etcd-rescue@plan -f KEY FILE` leaves in FILE.sig (PROTOCOL.
sshsig of OpenSSH). It covers the file's bytes, so these go along, and not only what they mean.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agent.errors import UsageError
from agent.model.codec import from_plain, parse_json, to_plain
from agent.model.plan import Plan, plan_from_plain

NAMESPACE = "etcd-rescue@plan"
MAX_PLAN = 4 * 1024 * 1024
"""Characters; a plan for seven hosts has 40 thousand."""


@dataclass(frozen=True)
class Signed:
    """A plan's file, to the byte, and its signature (-----BEGIN SSH SIGNATURE-----)."""

    text: str
    signature: str


@dataclass(frozen=True)
class Policy:
    """What somebody demands of plans.

    required: take signed plans only. allowed_signers: the text of such a file (ssh-keygen(1)),
    empty for none. revoked: keys that are taken no more, one public key a line. source: who demands
    it.
    """

    required: bool = False
    allowed_signers: str = ""
    revoked: str = ""
    source: str = ""


def plan_text(plan: Plan) -> str:
    """The text of a plan's file: the same for the same plan, wherever it is made."""
    text = json.dumps(to_plain(plan), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


def plan_of_text(text: str, where: str) -> Plan:
    """The plan in a file's text. One without an ID, as made by hand, is given its own.

    Raises UsageError where it is no plan, was altered, or says one thing twice.
    """
    if len(text) > MAX_PLAN:
        raise UsageError(f"{where}: larger than {MAX_PLAN} characters", "no plan is that long")
    data = parse_json(text, where)
    if not isinstance(data, dict):
        raise UsageError(f"{where}: not a plan", next="fab plan --save FILE")
    return plan_from_plain(data if data.get("id") else {**data, "id": _id_of(data, where)})


def _id_of(data: dict[str, Any], where: str) -> str:
    return from_plain(Plan, {**data, "id": ""}, where).with_id().id
