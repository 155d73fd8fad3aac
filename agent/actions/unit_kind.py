"""A definition that is a systemd unit, with its drop-ins, environment files and configuration.

Parked means: a drop-in says that the unit must not start (an Assert that fails, so whoever starts
it is told), and the unit is stopped. Nothing of the unit itself is moved or changed, so that
whatever it was - packaged, made by hand, enabled or not - it is the same when the drop-in is gone.
"""

from __future__ import annotations

import json
import os
from typing import Any, Optional

from agent.actions.base import Context, wait_for
from agent.actions.kind import Flags, Kind, Texts
from agent.actions.splice_unit import change_flags
from agent.errors import CommandFailed, Damaged, PreconditionFailed, StepFailed, Timeout
from agent.host import Completed
from agent.model.facts import EtcdConfig, Service
from agent.survey.processes import is_etcd_stopped, read_service
from agent.survey.units import (
    block_path,
    fragment_of,
    is_startable,
    read_view,
    unit_digest,
    view_config,
)

_DEPENDENTS = ("RequiredBy", "BoundBy", "ConsistsOf")
_RUNNING = ("active", "activating", "reloading", "deactivating", "maintenance")
_PATIENCE = 10.0
"""Seconds for systemd to answer: what a step decides by is not guessed on a busy host."""

_ENV = {"SYSTEMD_IGNORE_CHROOT": "1"}

_BLOCK = """\
# {unit} must not start now. This file was put here by etcd-rescue, plan {plan}, step {step}; the
# same plan takes it away again (fab resume, or fab rollback). By hand, with {unit} as it was:
#   rm {path} && systemctl daemon-reload && systemctl start {unit}
[Unit]
AssertPathExists=!/
"""


class UnitKind(Kind):
    """Parked by a drop-in; systemd is told what to do."""

    restarts_when_changed = False

    def where(self, ctx: Context) -> str:
        return ctx.platform.unit

    def require_own(self, ctx: Context, path: str) -> None:
        own = fragment_of(ctx.host, ctx.platform.unit)
        if not own or path != own:
            raise PreconditionFailed(
                f"{path} is not the file of {ctx.platform.unit} ({own or 'there is none'})",
                "only etcd's own definition is ever touched",
            )

    def require_readable(self, ctx: Context, problems: tuple[str, ...]) -> None:
        if problems and self.is_there(ctx, ""):
            raise PreconditionFailed(
                "; ".join(problems),
                f"{ctx.platform.unit} would still start an etcd that nothing is known of",
                "fab survey, once that is put right",
            )

    def digest(self, ctx: Context, path: str) -> str:
        is_parked = self._is_held(ctx) and self._is_loaded(ctx)
        return "" if is_parked else unit_digest(ctx.host, ctx.platform.unit)

    def parked_digest(
        self, ctx: Context, place: str, path: str, texts: Optional[Texts] = None
    ) -> str:
        if not (self._is_held(ctx) and self._is_loaded(ctx)):
            return ""
        return unit_digest(ctx.host, ctx.platform.unit, texts)

    def is_there(self, ctx: Context, path: str) -> bool:
        return not self._is_held(ctx) and is_startable(ctx.host, ctx.platform.unit)

    def _is_held(self, ctx: Context) -> bool:
        return ctx.host.exists(block_path(ctx.platform.unit))

    def _is_loaded(self, ctx: Context) -> bool:
        """Whether systemd has taken the drop-in up: a run may have ended right before it was told.

        Asked of systemd, not of the disk, where it has been for long.
        """
        unit = ctx.platform.unit
        return block_path(unit) in _systemctl(ctx, "show", "--property=DropInPaths", unit)

    def remember(self, ctx: Context) -> dict[str, Any]:
        """Units that stop together with etcd's, because they require it, and run now."""
        shown = _systemctl(ctx, "show", f"--property={','.join(_DEPENDENTS)}", ctx.platform.unit)
        names = {name for line in shown.splitlines() for name in line.partition("=")[2].split()}
        services = sorted(name for name in names if name.endswith(".service"))
        running = [n for n in services if read_service(ctx.host, n, _PATIENCE).active in _RUNNING]
        return {"dependents": running}

    def hold(self, ctx: Context, path: str, place: str) -> None:
        host, unit = ctx.host, ctx.platform.unit
        if not host.exists(place):
            host.copy_file(path, place)  # shows that it is parked, and what it was
        block = block_path(unit)
        text = _BLOCK.format(unit=unit, plan=ctx.plan, step=ctx.step, path=block)
        if not host.exists(block):
            host.makedirs(os.path.dirname(block), 0o755)
            host.write_atomic(block, text.encode(), mode=0o644)
        _systemctl(ctx, "daemon-reload")
        if not self._is_loaded(ctx):
            raise StepFailed(
                f"systemd does not take {block}",
                f"{unit} could be started while its data is being worked on",
                f"look at: systemctl cat {unit}",
            )
        _systemctl(ctx, "stop", "--no-block", unit)

    def release(self, ctx: Context, place: str, path: str, start: bool = True) -> None:
        host, unit = ctx.host, ctx.platform.unit
        block, folder = block_path(unit), os.path.dirname(place)
        stamp = f"{host.now():.3f}"
        host.clear_cut_write(block)
        if host.exists(block):
            host.move_new(block, f"{folder}/.{os.path.basename(place)}.block-{stamp}")
        if host.is_dir(os.path.dirname(block)):  # made for it, perhaps by a run that was cut there
            host.run(["rmdir", "--ignore-fail-on-non-empty", os.path.dirname(block)], timeout=5)
        dependents = _dependents(ctx, place)
        if host.exists(place):
            host.rename_new(place, f"{folder}/.{os.path.basename(place)}.copy-{stamp}")
        _systemctl(ctx, "daemon-reload")
        if not start:
            return
        self.clear_backoff(ctx)
        _systemctl(ctx, "start", "--no-block", unit)
        if dependents:
            _systemctl(ctx, "start", "--no-block", *dependents)
        self._see_it_begin(ctx)

    def _see_it_begin(self, ctx: Context) -> None:
        """See that systemd has taken the start up; whether etcd then serves is another question."""

        def begun() -> tuple[bool, str]:
            state = self._state(ctx)
            return state.active not in ("", "inactive"), state.active or "no answer"

        try:
            wait_for(ctx.say, f"{ctx.platform.unit} to start", begun, 10.0)
        except Timeout as error:
            raise StepFailed(
                f"systemd did not start {ctx.platform.unit}: {error.seen}",
                "something keeps it from being started",
                f"look at: systemctl status {ctx.platform.unit}",
            ) from None

    def is_started(self, ctx: Context) -> bool:
        return self._state(ctx).active in (*_RUNNING, "failed")

    def _state(self, ctx: Context) -> Service:
        return read_service(ctx.host, ctx.platform.unit, _PATIENCE)

    def begin_stop(self, ctx: Context) -> float:
        _systemctl(ctx, "stop", "--no-block", ctx.platform.unit)
        return 30.0

    def end_by_force(self, ctx: Context) -> None:
        ctx.say(f"{ctx.platform.unit} does not end; killing it")
        _run(ctx, ["kill", "--signal=SIGKILL", ctx.platform.unit], ok=(0, 1))

    def still(self, ctx: Context) -> tuple[bool, str]:
        state = self._state(ctx)
        if not state.active or state.active in _RUNNING:
            return False, f"{state.name} is {state.active or 'of a state systemd does not tell'}"
        if self.is_there(ctx, ""):
            return False, f"its definition is in place: {ctx.platform.unit}"
        return is_etcd_stopped(ctx.host, None, None)

    def clear_backoff(self, ctx: Context) -> None:
        _run(ctx, ["reset-failed", ctx.platform.unit], ok=(0, 1))

    def config(self, ctx: Context, place: str, texts: Optional[Texts] = None) -> EtcdConfig:
        unit = ctx.platform.unit
        return view_config(read_view(ctx.host, unit, texts), fragment_of(ctx.host, unit))

    def changed(self, ctx: Context, place: str, texts: Texts, flags: Flags) -> Texts:
        def view(more: Texts) -> Any:
            return read_view(ctx.host, ctx.platform.unit, {**texts, **more})

        return change_flags(view, flags)

    def owner(self, ctx: Context) -> tuple[int, int]:
        """User= and Group= of the unit (systemd.exec(5)): names are looked up on this host."""
        told = _systemctl(ctx, "show", "-p", "User", "-p", "Group", ctx.platform.unit)
        said = dict(line.partition("=")[::2] for line in told.splitlines())
        user, group = said.get("User", ""), said.get("Group", "")
        uid, own_group = _ids(ctx, "/etc/passwd", user) if user else (0, 0)
        return uid, _ids(ctx, "/etc/group", group)[0] if group else own_group

    def written(self, ctx: Context) -> None:
        _systemctl(ctx, "daemon-reload")


def _ids(ctx: Context, file: str, name: str) -> tuple[int, int]:
    """The third and fourth field of a line of passwd(5) or group(5); a number stands for itself.

    Raises StepFailed for a name that is not there.
    """
    if name.isascii() and name.isdigit():
        return int(name), int(name)
    for line in ctx.host.read_text(file).splitlines():
        found = line.split(":")
        if found[0] == name and len(found) > 3:
            return int(found[2]), int(found[3]) if found[3].isdigit() else 0
    raise StepFailed(
        f"{file} has no {name}, as which {ctx.platform.unit} runs",
        "data that etcd cannot read does not start",
        f"make the data directory for {name}; then: fab resume",
    )


def _dependents(ctx: Context, place: str) -> list[str]:
    """The units noted when this one was parked."""
    try:
        told = json.loads(ctx.host.read_bytes(f"{place}.json", 65536))
    except (OSError, Damaged, ValueError, RecursionError):
        return []
    names = told.get("dependents", []) if isinstance(told, dict) else []
    return [name for name in names if isinstance(name, str)]


def _run(ctx: Context, words: list[str], ok: tuple[int, ...] = (0,)) -> Completed:
    return ctx.host.run(["systemctl", *words], timeout=30, ok=ok, env=_ENV)


def _systemctl(ctx: Context, *words: str) -> str:
    """What systemctl says. Raises StepFailed where it fails or does not answer."""
    try:
        return _run(ctx, list(words)).stdout
    except CommandFailed as error:
        raise StepFailed(
            error.seen,
            "systemd runs etcd here; without its answer nothing is certain",
            "look at: systemctl status; then: fab resume",
        ) from None
