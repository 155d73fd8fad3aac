"""The task that makes a bundle for machines without a network; see docs/air-gap.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UsageError, plain
from coordinator import report
from coordinator.console import Progress
from coordinator.tasks.common import Options

if TYPE_CHECKING:
    from bundle.build import Made


def bundle(
    options: Options, to: str, sign: str, python: tuple[str, ...], machine: tuple[str, ...]
) -> None:
    """Make the archive in the directory `to`, signed with the key `sign` if one is given."""
    try:
        from bundle.build import Wish, make_bundle
    except ModuleNotFoundError:
        raise UsageError(
            "a bundle is made in a checkout of etcd-rescue, and this is none",
            "what is installed, or is a bundle itself, does not have all that goes into one",
        ) from None
    key = Path(sign).expanduser().absolute() if sign else None
    wish = Wish(_words(python), _words(machine), key)
    made = make_bundle(Path(to or "dist").absolute(), wish, Progress().say)
    report.emit(made, options.output, _tell)


def _words(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for word in given for part in word.split(",") if part)


def _tell(made: Made) -> None:
    lines = [
        f"{made.path} ({made.size / 2**20:.1f} MiB, {made.files} files)",
        f"sha256 {made.sha256}",
        f"for operators with Python {', '.join(made.pythons)}, on a machine like this one",
        f"for hosts: {', '.join(made.machines)}",
        "signed: carry the public key by another way than the bundle"
        if made.signed
        else "UNSIGNED: whoever gets it cannot tell who made it; fab bundle --sign KEY",
        *(f"not in it: {text}" for text in made.missing),
    ]
    for line in lines:
        print(plain(line))
