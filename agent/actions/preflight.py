"""Look before anything stops: what the plan needs is there, and nobody else is."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data
from agent.actions.binary import obtain_binary
from agent.actions.data import DataArgs, data_places
from agent.actions.definitions import current_config
from agent.actions.room import (
    require_data_room,
    require_definition_can_move,
    require_memory,
    require_state_room,
)
from agent.errors import PreconditionFailed


@dataclass(frozen=True)
class PreflightArgs:
    """copies: a full copy of this host's data must fit. binary: the step needs an etcd to run.

    incoming: bytes of data that this host will fetch, beside what it has.
    """

    copies: bool = True
    binary: bool = True
    incoming: int = 0


class Preflight(Action[PreflightArgs]):
    """What can be known before anything stops: room, disks that read and write, an etcd to run,
    one readable definition that can be moved.
    """  # noqa: D205

    name = "preflight"
    args_type = PreflightArgs

    def is_done(self, ctx: Context, args: PreflightArgs, undo: Optional[Data]) -> bool:
        return False  # it is there to look again

    def act(self, ctx: Context, args: PreflightArgs, undo: Data) -> Data:
        config = current_config(ctx)
        if config.wal_dir:
            raise PreconditionFailed(
                f"{config.definition} keeps the WAL apart, in {config.wal_dir}",
                "data and WAL must move together, and these recipes move one directory",
                "move the WAL into the data directory first, or restore from a snapshot",
            )
        try:
            require_memory()
            require_definition_can_move(ctx, config.definition)
            require_state_room(ctx)
            require_data_room(ctx, data_places(ctx, DataArgs()), args.copies, args.incoming)
        except PreconditionFailed as error:  # of several hosts: which
            seen = f"{ctx.host.hostname()}: {error.seen}"
            raise PreconditionFailed(seen, error.why, error.next) from None
        result: Data = {}
        if args.binary:
            path, version = obtain_binary(ctx, config)
            result = {"binary": path, "version": version}
        return result


@dataclass(frozen=True)
class SilentArgs:
    """endpoints: (host name, address, port) of everything that must not answer."""

    endpoints: tuple[tuple[str, str, int], ...]
    timeout: float = 0.5


class PeersSilent(Action[SilentArgs]):
    """No other member may answer now: one that came back could form a quorum with another."""

    name = "peers_silent"
    args_type = SilentArgs

    def is_done(self, ctx: Context, args: SilentArgs, undo: Optional[Data]) -> bool:
        return False  # silence a minute ago says nothing about now

    def act(self, ctx: Context, args: SilentArgs, undo: Data) -> Data:
        with ThreadPoolExecutor(max_workers=16) as pool:  # one dead address must not delay the rest
            found = list(pool.map(lambda e: answers(e[1], e[2], args.timeout), args.endpoints))
        for (name, address, port), alive in zip(args.endpoints, found):
            if alive:
                raise PreconditionFailed(
                    f"{name} answers on {address}:{port}",
                    "it was declared lost and is not; with another member it could serve writes "
                    "that this rescue would throw away",
                    "fab rollback, then fab diagnose",
                )
        return {"silent": len(args.endpoints)}


def answers(address: str, port: int, timeout: float) -> bool:
    """Say whether something accepts TCP connections there."""
    try:
        with socket.create_connection((address, port), timeout):
            return True
    except OSError:
        return False
