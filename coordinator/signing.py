"""Plan files and their signatures on the operator's machine, and what cluster.yaml demands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.errors import Refused, Unsigned, UsageError
from agent.model.plan import Plan
from agent.model.signed import MAX_PLAN, NAMESPACE, Policy, Signed, plan_of_text, plan_text

POLICY_KEYS = ("require_signed_plans", "allowed_signers", "revoked_signers")
_MAX_SIGNATURE = 64 * 1024
_MAX_SIGNERS = 1024 * 1024


def read_policy(data: Mapping[str, Any], path: Path) -> Policy:
    """What a cluster.yaml (its top level) demands of plans. Raises UsageError."""
    required = data.get("require_signed_plans", False)
    if not isinstance(required, bool):
        raise UsageError(f"{path}: require_signed_plans {required!r} is neither true nor false")
    signers = _text_beside(data, "allowed_signers", path)
    revoked = _text_beside(data, "revoked_signers", path)
    if not (required or signers or revoked):
        return Policy()
    return Policy(required, signers, revoked, str(path))


def _text_beside(data: Mapping[str, Any], key: str, path: Path) -> str:
    name = data.get(key) or ""
    if not isinstance(name, str):
        raise UsageError(f"{path}: {key} {name!r} is not a path")
    return _read(path.parent / Path(name).expanduser(), _MAX_SIGNERS) if name else ""


def _read(path: Path, limit: int) -> str:
    """A text file, to the byte. Raises UsageError where it cannot be read, or is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise UsageError(f"{path}: larger than {limit} bytes")
        return data.decode()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at offset {error.start}") from None


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan's file (0600), never over another. Raises Refused, UsageError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(plan_text(plan).encode())
    except FileExistsError:
        raise Refused(f"{path} is there already", "no file is written over") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def load_plan(path: Path) -> tuple[Plan, Signed | None]:
    """A plan's file, and with it FILE.sig if there is one. Raises UsageError."""
    text = _read(path, 4 * MAX_PLAN)
    plan = plan_of_text(text, str(path))
    beside = path.with_name(f"{path.name}.sig")
    if not beside.exists():
        return plan, None
    return plan, Signed(text, _read(beside, _MAX_SIGNATURE))


def signing_commands(file: Path) -> str:
    """What to type so that a plan's file is signed and carried out."""
    return f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY {file}; fab apply {file}"


def to_be_signed(plan: Plan, why: str, file: Path | None = None) -> Unsigned:
    """The error that says how to go on with a plan that must be signed.

    file: where the plan lies; without one it is written to the working directory.
    """
    place = file or Path(f"plan-{plan.short_id}.json")
    if file is None:
        save_plan(plan, place)
    told = f"{place} has no signature beside it" if file else f"it was written to {place}"
    return Unsigned(f"plan {plan.short_id} is not signed; {told}", why, signing_commands(place))
