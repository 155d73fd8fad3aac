"""Scratch etcd: the node's own etcd, run for seconds outside the kubelet on a copy of the data."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Optional, TypeVar

from agent.actions.base import Action, Context, Data, Places, wait_for
from agent.actions.binary import obtain_binary
from agent.actions.data import (
    DataArgs,
    copied_marker,
    data_places,
    discard_work,
    ready_marker,
    require_space,
)
from agent.actions.definitions import current_config
from agent.actions.services import require_stopped
from agent.actions.shrink import (
    WITHOUT_QUOTA,
    db_of,
    db_size,
    is_bloated,
    quota_of,
    shrink,
    wait_until_compacted,
)
from agent.errors import PreconditionFailed, RescueError, StepFailed
from agent.etcd.answers import Status
from agent.etcd.client import EtcdClient, peer_hash_kv
from agent.etcd.transport import RealFiles, real_files
from agent.host import Host
from agent.model.facts import EtcdConfig, TlsFiles
from agent.survey.online import local_peer_urls

_PASSED_ON = ("quota-backend-bytes", "max-request-bytes", "max-txn-ops", "snapshot-count")
"""Flags that the data may depend on; everything else is ours or a default."""

_STOP_SECONDS = 20.0

T = TypeVar("T")


@dataclass(frozen=True)
class ScratchArgs(DataArgs):
    """deadline: seconds until it must be healthy and alone."""

    deadline: float = 120.0


@dataclass(frozen=True)
class PrejoinArgs(DataArgs):
    """initial_cluster: name=peer URL pairs, this member among them; empty: as a source lists them.

    sources: client URLs of members that serve, to compare progress with. etcd refuses to join with
    any other list than the one of now, and who has joined by now is not known beforehand.
    """

    initial_cluster: str = ""
    sources: tuple[str, ...] = ()
    deadline: float = 600.0


def free_ports(count: int) -> list[int]:
    """Loopback ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _tls_flags(prefix: str, tls: TlsFiles) -> list[str]:
    """--cert-file and friends for clients (prefix "") or for peers (prefix "peer-")."""
    if not tls.cert:
        return []
    return [
        f"--{prefix}cert-file={tls.cert}",
        f"--{prefix}key-file={tls.key}",
        f"--{prefix}trusted-ca-file={tls.ca}",
        f"--{prefix}client-cert-auth=true",
    ]


def _common_flags(ctx: Context, config: EtcdConfig, where: Places, client_port: int) -> list[str]:
    """Flags of both kinds of scratch etcd: clients on loopback only, with the node's TLS."""
    scheme = "https" if config.server_tls.cert else "http"
    return [
        f"--name={config.name}",
        f"--data-dir={where.work}",
        f"--listen-client-urls={scheme}://127.0.0.1:{client_port}",
        # Advertised as ever: etcd stores it in its membership, and the copy becomes the data.
        f"--advertise-client-urls={','.join(config.advertise_client_urls)}",
        "--logger=zap",
        *(f"--{name}={config.flags[name]}" for name in _PASSED_ON if name in config.flags),
        *_tls_flags("", config.server_tls),
        *_tls_flags("peer-", config.peer_tls),
    ]


def _loopback_flags(config: EtcdConfig, peer_port: int) -> list[str]:
    """Alone, on loopback, quick to elect itself: no peer can reach it, and it reaches none."""
    scheme = "https" if config.peer_tls.cert else "http"
    return [
        f"--listen-peer-urls={scheme}://127.0.0.1:{peer_port}",
        "--heartbeat-interval=20",
        "--election-timeout=200",
    ]


def _prejoin_flags(ctx: Context, config: EtcdConfig, args: PrejoinArgs) -> list[str]:
    """On the member's real peer URL, with its own certificates, as an existing cluster's member."""
    timing = ("heartbeat-interval", "election-timeout")
    return [
        f"--listen-peer-urls={','.join(config.listen_peer_urls)}",
        f"--initial-advertise-peer-urls={','.join(config.advertise_peer_urls)}",
        f"--initial-cluster={args.initial_cluster or _listed(ctx, args.sources, config)}",
        "--initial-cluster-state=existing",
        *(f"--{name}={config.flags[name]}" for name in timing if name in config.flags),
        WITHOUT_QUOTA,  # after the node's own, in place of which it counts
    ]


@contextmanager
def running(ctx: Context, argv: list[str], log: str) -> Iterator[Callable[[], Optional[str]]]:
    """Run a scratch etcd; give a probe that says why it died, or None while it lives.

    It is stopped with SIGTERM at the end, and dies with the agent in any case.
    """
    process = ctx.host.spawn(argv, log)

    def died() -> Optional[str]:
        code = process.poll()
        return None if code is None else f"exit code {code}: {_last_words(ctx, log)}"

    try:
        yield died
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(ctx: Context, log: str) -> str:
    """Give the error of the last log lines that carry one."""
    lines = ctx.host.read_bytes(log, 64 << 20).decode(errors="replace").splitlines()[-50:]
    words = ('"fatal"', '"error"', "panic", "fatal error:")  # the last is Go's runtime's
    telling = [line for line in lines if any(word in line for word in words)]
    return (telling or lines or ["(no output)"])[-1][-600:]


def _scratch_argv(ctx: Context, where: Places, flags: list[str]) -> tuple[list[str], str]:
    """(argv of the node's own etcd with these flags, where its log goes)."""
    config = current_config(ctx)
    binary, _version = obtain_binary(ctx, config)
    return [binary, *flags], f"{where.work}/scratch.log"


def finish(ctx: Context, where: Places, facts: Mapping[str, object]) -> Data:
    """Write, after the scratch etcd has ended, that the copy is ready to be installed."""
    ctx.host.write_atomic(ready_marker(where), json.dumps(facts).encode())
    return dict(facts)


class SeedCluster(Action[ScratchArgs]):
    """Make the copy a one-member cluster with a scratch etcd and --force-new-cluster.

    The flag is in the argv of this one process and never in a file; the process ends in this step,
    and the kubelet's start of the unchanged definition is the proof that it is gone.
    """

    name = "seed_cluster"
    args_type = ScratchArgs

    def check(self, ctx: Context, args: ScratchArgs) -> None:
        require_stopped(ctx)
        where = data_places(ctx, args)
        if not (ctx.host.exists(copied_marker(where)) and ctx.host.is_dir(where.work_member)):
            raise PreconditionFailed(
                f"no complete copy of the data in {where.work}",
                "--force-new-cluster rewrites the membership; never on the only data there is",
                "fab resume",
            )

    def is_done(self, ctx: Context, args: ScratchArgs, undo: Optional[Data]) -> bool:
        return ctx.host.exists(ready_marker(data_places(ctx, args)))

    def act(self, ctx: Context, args: ScratchArgs, undo: Data) -> Data:
        where = data_places(ctx, args)
        what = "the scratch etcd to be healthy and alone"
        own = ("--force-new-cluster=true",)
        with serving_alone(ctx, where, own, what, args.deadline) as (_endpoint, facts):
            pass  # serving alone is all that it was started for
        return finish(ctx, where, facts)


@contextmanager
def serving_alone(
    ctx: Context, where: Places, own: Sequence[str], what: str, deadline: float
) -> Iterator[tuple[str, dict[str, object]]]:
    """Run a scratch etcd on loopback, and give (endpoint, its identity) once it serves alone.

    own: its flags beside the common ones. what: is waited for, `deadline` seconds at most. Raises
    StepFailed where it ends before, and what `wait_for` raises.
    """
    config = current_config(ctx)
    client_port, peer_port = free_ports(2)
    flags = [*_common_flags(ctx, config, where, client_port), *own]
    argv, log = _scratch_argv(ctx, where, flags + _loopback_flags(config, peer_port))
    scheme = "https" if config.server_tls.cert else "http"
    endpoint = f"{scheme}://127.0.0.1:{client_port}"
    facts: dict[str, object] = {}
    files = real_files(ctx.host, config.client_tls)
    with running(ctx, argv, log) as died:

        def probe() -> tuple[bool, str]:
            if (why := died()) is not None:
                raise StepFailed(f"the scratch etcd ended with {why}", "its log: " + log)
            return alone(endpoint, files, facts)

        wait_for(ctx.say, what, probe, deadline, 0.05)
        yield endpoint, facts


def alone(endpoint: str, tls: RealFiles, facts: dict[str, object]) -> tuple[bool, str]:
    """Say whether the etcd there serves as the only member; its identity goes to `facts`."""
    try:
        with EtcdClient(endpoint, tls, timeout=1.0) as client:
            if not client.linearizable_read():
                return False, "it answers, but does not serve yet"
            members = client.members(linearizable=True)
            status = client.status()
    except RescueError as error:
        return False, error.seen
    facts.update(member_id=status.member_id, cluster_id=status.cluster_id, revision=status.revision)
    return len(members) == 1 and members[0].id == status.member_id, f"{len(members)} members"


class Prejoin(Action[PrejoinArgs]):
    """Let a scratch etcd catch up as a learner, so that the unchanged definition finds its data.

    With an identity in the data directory the definition's --initial-* flags no longer matter, and
    no back-off of a changed pod is in the way. It is stopped before anybody promotes it: a voter
    that is about to stop would cost a two-member cluster its quorum. Its file is rewritten where it
    grew as the others' once did: it would raise the alarm anew that they are rid of.
    """

    name = "prejoin"
    args_type = PrejoinArgs

    def check(self, ctx: Context, args: PrejoinArgs) -> None:
        require_stopped(ctx)
        where = data_places(ctx, args)
        if ctx.host.exists(where.member):
            raise PreconditionFailed(
                f"{where.member} is still in place",
                "a member must not come back with its old data",
                "rescue-agent relocate-data",
            )
        require_space(ctx, where, _source_status(ctx, args.sources, current_config(ctx)).db_size)

    def is_done(self, ctx: Context, args: PrejoinArgs, undo: Optional[Data]) -> bool:
        return ctx.host.exists(ready_marker(data_places(ctx, args)))

    def act(self, ctx: Context, args: PrejoinArgs, undo: Data) -> Data:
        where = data_places(ctx, args)
        ctx.host.makedirs(where.work)
        config = current_config(ctx)
        (client_port,) = free_ports(1)
        flags = _common_flags(ctx, config, where, client_port) + _prejoin_flags(ctx, config, args)
        argv, log = _scratch_argv(ctx, where, flags)
        scheme = "https" if config.server_tls.cert else "http"
        endpoint = f"{scheme}://127.0.0.1:{client_port}"
        facts: dict[str, object] = {}
        target = _source_status(ctx, args.sources, config)
        with running(ctx, argv, log) as died:

            def probe() -> tuple[bool, str]:
                if (why := died()) is not None:
                    raise StepFailed(f"the scratch etcd ended with {why}", "its log: " + log)
                return caught_up(ctx.host, endpoint, config, target, facts)

            wait_for(ctx.say, "the learner to catch up", probe, args.deadline, 0.05)
            if is_bloated(db_size(ctx.host, db_of(where)), target.db_size, quota_of(config)):
                wait_until_compacted(ctx, where, config, target.revision)
        return finish(ctx, where, {**facts, **shrink(ctx, where, config, target.db_size)})

    def undo(self, ctx: Context, args: PrejoinArgs, undo: Data) -> None:
        discard_work(ctx, data_places(ctx, args))


def _listed(ctx: Context, sources: tuple[str, ...], config: EtcdConfig) -> str:
    """Give the --initial-cluster value of the members as they are; the one without name is this."""

    def ask(client: EtcdClient) -> str:
        members = client.members(linearizable=True)
        return ",".join(f"{m.name or config.name}={url}" for m in members for url in m.peer_urls)

    return _ask(ctx, sources, config, ask)


def _source_status(ctx: Context, sources: tuple[str, ...], config: EtcdConfig) -> Status:
    """Give the status of the first member that answers: what the learner must reach and hold."""
    return _ask(ctx, sources, config, lambda client: client.status())


def _ask(
    ctx: Context, sources: tuple[str, ...], config: EtcdConfig, ask: Callable[[EtcdClient], T]
) -> T:
    """Give what the first source that answers says. Raises PreconditionFailed where none does."""
    said, files = [], real_files(ctx.host, config.client_tls)
    for source in sources:
        try:
            with EtcdClient(source, files, timeout=3.0) as client:
                return ask(client)
        except RescueError as error:
            said.append(error.seen)
    raise PreconditionFailed(
        f"no serving member answers from here: {'; '.join(said) or 'none is named'}",
        "a learner's progress is judged against theirs",
        "fab diagnose",
    )


def caught_up(
    host: Host, endpoint: str, config: EtcdConfig, target: Status, facts: dict[str, object]
) -> tuple[bool, str]:
    """Say whether the learner has all that `target`, a member that serves, had applied.

    etcd answers clients once the cluster has heard the member's name. Where it came too late to be
    heard with the entry of its own, because it got a snapshot that held it already, it says its
    name a second time, 7 s later (etcd server.go, publishV3). Its peer port answers at once.
    """
    try:
        files = real_files(host, config.client_tls)
        with EtcdClient(endpoint, files, timeout=1.0) as client:
            status = client.status()
    except RescueError as error:
        return _holds_keys(host, config, target.revision), error.seen
    facts.update(member_id=status.member_id, cluster_id=status.cluster_id)
    goal = target.applied_index
    reached = status.applied_index >= goal and status.leader_id.strip("0") != ""
    return reached, f"index {status.applied_index} of {goal}"


def _holds_keys(host: Host, config: EtcdConfig, revision: int) -> bool:
    """True if the member on this host has the keys of that revision: it can hash them."""
    try:
        peer_hash_kv(local_peer_urls(config)[0], real_files(host, config.peer_tls), revision)
    except RescueError:
        return False
    return True
