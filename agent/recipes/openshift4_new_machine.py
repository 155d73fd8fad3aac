"""A new Machine out of an old one: what the server made is dropped, and the name is a free one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from agent.errors import Refused
from agent.model.facts.openshift4 import REPLACES

Object = dict[str, Any]
_OF_THE_SERVER = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "selfLink", "managedFields", "ownerReferences", "finalizers",
    "annotations", "generateName",
)  # fmt: skip
"""Of metadata (meta/v1 ObjectMeta, and what the machine's controllers write into it): the instance
state, the bare-metal host that it took, and the finalizer belong to the old machine."""

_NUMBERED = re.compile(r"(?P<base>.*-)(?P<number>\d+)")
_HOOK_OWNER = "clusteroperator/"
_LONGEST = 63
"""Characters of a machine's name: it becomes the value of labels, and a host's name."""


def new_machine(old: Object, name: str) -> Object:
    """The Machine to make in place of `old` (machine.openshift.io/v1beta1), under a new name.

    Kept: labels, taints, the provider's specification, and hooks that people added. Raises Refused
    for what is no Machine.
    """
    meta, spec = old.get("metadata"), old.get("spec")
    if old.get("kind") != "Machine" or not isinstance(meta, dict) or not isinstance(spec, dict):
        raise Refused(
            f"the API gave an object of kind {old.get('kind')!r} for a machine",
            "a new machine is made from the old one",
            "fab diagnose",
        )
    kept = {k: v for k, v in meta.items() if k not in _OF_THE_SERVER}
    kept["name"] = name
    kept["annotations"] = {REPLACES: str(meta.get("uid", ""))}
    made = {k: v for k, v in spec.items() if k not in ("providerID", "lifecycleHooks")}
    hooks = _hooks_of_people(spec.get("lifecycleHooks"))
    if hooks:
        made["lifecycleHooks"] = hooks
    return {"apiVersion": old["apiVersion"], "kind": "Machine", "metadata": kept, "spec": made}


def _hooks_of_people(hooks: Any) -> Object:
    """Without those that cluster operators add by themselves to every machine of theirs."""
    found = {}
    for phase, rows in hooks.items() if isinstance(hooks, dict) else ():
        kept = [r for r in rows or () if not str(r.get("owner", "")).startswith(_HOOK_OWNER)]
        if kept:
            found[phase] = kept
    return found


def free_name(old: str, taken: Iterable[str]) -> str:
    """The same base with the next free number: …-master-0 → …-master-3, where there are 0 to 2.

    taken: names of all machines and nodes, of those on their way out, too; a number that is smaller
    than one in use is not taken: logs and clouds may still know it. Raises Refused where the name
    would be too long.
    """
    found = _NUMBERED.fullmatch(old)
    base = found["base"] if found else f"{old}-"
    numbers = [int(found["number"])] if found else [-1]
    for name in taken:
        other = _NUMBERED.fullmatch(name)
        if other is not None and other["base"] == base:
            numbers.append(int(other["number"]))
    name = f"{base}{max(numbers) + 1}"
    if len(name) > _LONGEST:
        raise Refused(
            f"{name} would have more than {_LONGEST} characters",
            "a machine's name becomes a label and a host's name",
            f"make the machine by hand from {old}, then: fab diagnose",
        )
    return name


def mentions(made: Object, old_name: str) -> list[str]:
    """Places in the new object that still say the old machine's name: for a person to look at."""
    word = re.compile(rf"(?<![-\w.]){re.escape(old_name)}(?![-\w])")
    spec = _leaves(made.get("spec"), "spec")
    return sorted(where for where, text in spec if word.search(text))


def _leaves(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{where}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{where}[{number}]")
    elif isinstance(value, str):
        yield where, value


def difference(old: Object, made: Object) -> list[str]:
    """What changes from the old object to the new one, a line for each value.

    `- PATH: VALUE` leaves, `+ PATH: VALUE` comes; a whole part that leaves is one line.
    """
    return list(_changes(old, made, ""))


def _changes(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            path = f"{where}.{key}" if where else key
            if key not in new:
                yield f"- {path}: {_short(old[key])}"
            elif key not in old:
                yield f"+ {path}: {_short(new[key])}"
            else:
                yield from _changes(old[key], new[key], path)
    elif old != new:
        yield f"- {where}: {_short(old)}"
        yield f"+ {where}: {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:119]}…"
