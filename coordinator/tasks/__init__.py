"""What the tasks of the fabfile do: look, diagnose, plan, confirm, apply, verify, report.

A task's module is loaded when it is asked for: loading all of them is a third of what a command
needs before it connects.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.tasks import (
        backup_master,
        bundle,
        carried,
        certificates,
        dcos,
        look,
        machines,
        master_restore,
        members,
        plan_files,
        rescue,
        restore,
        retire_master,
        settings,
        snapshot,
        timer,
        unfinished,
    )

__all__ = [
    "backup_master", "bundle", "carried", "certificates", "dcos", "look", "machines",
    "master_restore", "members", "plan_files", "rescue", "restore", "retire_master", "settings",
    "snapshot", "timer", "unfinished",
]  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    """Load a module of tasks at its first use. Raises AttributeError for any other name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
