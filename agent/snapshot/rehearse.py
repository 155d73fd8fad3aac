"""Rehearses a snapshot: restored into a scratch etcd on loopback, looked at, taken away again."""

from __future__ import annotations

import posixpath
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from agent.actions.base import Context, wait_for
from agent.actions.scratch import free_ports, running
from agent.errors import CommandFailed, Damaged, RescueError, StepFailed
from agent.etcd.client import EtcdClient
from agent.etcd.transport import RealFiles, real_files
from agent.host import STATE_DIR, Host
from agent.host.new_tree import NewTree
from agent.model.facts import TlsFiles
from agent.snapshot.backup_set import verify_path
from agent.snapshot.objects import count_objects
from agent.snapshot.rehearsal_tools import Tools, find_tools
from agent.snapshot.verify import Say, SnapshotFacts

_NAME = "rehearsal"
_STALE_SECONDS = 6 * 3600.0
_RESERVE = 192 * 1024 * 1024
"""The log that the restoring tool preallocates, and the next segment of it."""

_OPENSSL = """[req]
distinguished_name = dn
x509_extensions = v3
prompt = no
[dn]
CN = rehearsal
[v3]
basicConstraints = critical,CA:TRUE
subjectAltName = IP:127.0.0.1
"""


@dataclass(frozen=True)
class Rehearsal:
    """What a scratch etcd said of a snapshot, and what was read of its file.

    keys, revision: by the scratch etcd. kinds: Kubernetes objects by kind. prefixes: values by the
    prefix of their encryption provider, "" for plain ones; encrypted: prefix → kinds under it.
    etcd, tool: what it was rehearsed with. seconds: all of it; serving: until etcd served.
    """

    snapshot: SnapshotFacts
    host: str
    etcd: str
    tool: str
    keys: int
    revision: int
    kinds: dict[str, int] = field(default_factory=dict)
    prefixes: dict[str, int] = field(default_factory=dict)
    encrypted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    serving: float = 0.0


class _Finished(Exception):
    """The work directory has done its service; leaving it by an error takes it away."""


def rehearse(
    host: Host, path: str, no_hash_ok: bool = False, say: Say = lambda text: None
) -> Rehearsal:
    """Verify a snapshot file or set, restore it into a scratch etcd, count what it serves.

    Needs an etcd and an etcdutl (or etcdctl): the node's own on a control-plane host, else those on
    the PATH. Nothing of the host is stopped or changed, and nothing is left behind.

    Raises what verify_path raises; PreconditionFailed where there is no etcd or no tool; Refused
    where there is no room; StepFailed where the snapshot cannot be restored or served; Damaged
    where etcd serves something else than the file holds.
    """
    began = time.monotonic()
    facts, found_set = verify_path(host, path, no_hash_ok, say)
    database = f"{path}/{found_set.main}" if found_set and host.is_dir(path) else path
    tools = find_tools(host, say)
    parent = _work_parent(host, database, facts.size, tools.is_node)
    say(f"restoring into a scratch etcd {tools.etcd_version}")
    with _work(host, parent) as work:
        ctx = Context(host, tools.platform, posixpath.basename(work), "rehearse", say)
        keys, revision, serving = _serve(ctx, tools, facts, database, work)
        objects = count_objects(host, database)
    if keys != objects.keys:
        raise Damaged(
            f"{path}: etcd serves {keys} keys of it, the file holds {objects.keys}",
            "what would be restored is not what was saved",
            "take another snapshot",
        )
    return Rehearsal(
        snapshot=facts,
        host=host.hostname(),
        etcd=tools.etcd_version,
        tool=f"{tools.restore.name} {tools.restore.version}",
        keys=keys,
        revision=revision,
        kinds=dict(sorted(objects.kinds.items())),
        prefixes=dict(sorted(objects.prefixes.items())),
        encrypted={p: tuple(sorted(kinds)) for p, kinds in sorted(objects.encrypted.items())},
        seconds=round(time.monotonic() - began, 2),
        serving=round(serving, 2),
    )


# ---- where it happens ----------------------------------------------------------------------------


def _work_parent(host: Host, database: str, size: int, is_node: bool) -> str:
    """Our work directory on a node, else where the file lies. Raises StepFailed without room."""
    parent = f"{STATE_DIR}/work"
    if is_node:
        host.makedirs(parent)
        _discard_stale(host, parent)
    else:
        parent = posixpath.dirname(host.realpath(database))
    free, _inodes = host.free(parent)
    if free < size + _RESERVE:
        raise StepFailed(
            f"{parent}: a rehearsal needs {(size + _RESERVE) >> 20} MiB, {free >> 20} MiB are free",
            "the snapshot is restored beside it and taken away again",
            f"make room there: df -h {parent}",
        )
    return parent


def _discard_stale(host: Host, parent: str) -> None:
    for name in host.listdir(parent):
        path = f"{parent}/{name}"
        is_ours = name.startswith(".rehearsal-")
        if is_ours and host.now() - host.stat(path).st_mtime > _STALE_SECONDS:
            host.discard(path)


@contextmanager
def _work(host: Host, parent: str) -> Iterator[str]:
    """A directory of ours that is gone afterwards, whatever happened."""
    path = f"{parent}/.rehearsal-{secrets.token_hex(4)}"
    with suppress(_Finished), NewTree(host, path):
        yield path
        raise _Finished


# ---- the scratch etcd ----------------------------------------------------------------------------


def _serve(
    ctx: Context, tools: Tools, facts: SnapshotFacts, database: str, work: str
) -> tuple[int, int, float]:
    """(keys, revision, seconds until it served) of the restored snapshot."""
    began = time.monotonic()
    client_port, peer_port = free_ports(2)
    tls = _own_tls(ctx, work)
    scheme = "https" if tls.cert else "http"
    peer_url = f"{scheme}://127.0.0.1:{peer_port}"
    endpoint = f"{scheme}://127.0.0.1:{client_port}"
    _restore(ctx, tools, facts, database, work, peer_url)
    argv = _etcd_argv(tools.etcd, work, endpoint, peer_url, tls, facts.size)
    log, files = f"{work}/etcd.log", real_files(ctx.host, tls)
    with running(ctx, argv, log) as died:

        def probe() -> tuple[bool, str]:
            if (why := died()) is not None:
                raise StepFailed(
                    f"the scratch etcd ended with {why}",
                    "a cluster restored from this snapshot would end the same way",
                    "restore another snapshot",
                )
            return _serves(endpoint, files)

        wait_for(ctx.say, "the scratch etcd to serve the snapshot", probe, 300.0, 0.05)
        serving = time.monotonic() - began
        with EtcdClient(endpoint, files, timeout=60.0) as client:
            return client.count(b""), client.status().revision, serving


def _serves(endpoint: str, tls: RealFiles) -> tuple[bool, str]:
    try:
        with EtcdClient(endpoint, tls, timeout=2.0) as client:
            return client.linearizable_read(), "it answers, but does not serve yet"
    except RescueError as error:
        return False, error.seen


def _restore(
    ctx: Context, tools: Tools, facts: SnapshotFacts, database: str, work: str, peer_url: str
) -> None:
    """Run the node's own tool into WORK/data. Raises StepFailed with its last words."""
    argv = [
        tools.restore.path, "snapshot", "restore", database,
        f"--data-dir={work}/data",
        f"--name={_NAME}",
        f"--initial-cluster={_NAME}={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster-token={secrets.token_hex(8)}",
        *([] if facts.is_hashed else ["--skip-hash-check=true"]),
    ]  # fmt: skip
    log = f"{work}/restore.log"
    with running(ctx, argv, log) as died:

        def probe() -> tuple[bool, str]:
            why = died()
            return why is not None, why or f"{facts.size >> 20} MiB are being restored"

        ended = wait_for(ctx.say, "the snapshot to be restored", probe, 3600.0, 0.05)
    if not ended.startswith("exit code 0:"):
        raise StepFailed(
            f"{tools.restore.path} snapshot restore ended with {ended}",
            "this snapshot cannot be restored by this tool",
            "restore another snapshot",
        )


def _etcd_argv(
    etcd: str, work: str, endpoint: str, peer_url: str, tls: TlsFiles, size: int
) -> list[str]:
    """Alone on loopback, for whoever has the certificate of this rehearsal."""
    secured = (
        f"--{prefix}{flag}"
        for prefix in ("", "peer-")
        for flag in (
            f"cert-file={tls.cert}", f"key-file={tls.key}", f"trusted-ca-file={tls.ca}",
            "client-cert-auth=true",
        )
    )  # fmt: skip
    return [
        etcd,
        f"--name={_NAME}",
        f"--data-dir={work}/data",
        f"--listen-client-urls={endpoint}",
        f"--advertise-client-urls={endpoint}",
        f"--listen-peer-urls={peer_url}",
        "--heartbeat-interval=20",
        "--election-timeout=200",
        f"--quota-backend-bytes={max(4 * size, 8 << 30)}",
        "--logger=zap",
        *(secured if tls.cert else ()),
    ]


def _own_tls(ctx: Context, work: str) -> TlsFiles:
    """A certificate for this one rehearsal, so that no other user of this machine can read along.

    Made with openssl; where there is none, the scratch etcd is open on loopback for its seconds.
    """
    cert, key, conf = f"{work}/tls.crt", f"{work}/tls.key", f"{work}/openssl.cnf"
    ctx.host.write_atomic(conf, _OPENSSL.encode())
    try:
        ctx.host.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-sha256",
             "-config", conf, "-keyout", key, "-out", cert],
            timeout=60,
        )  # fmt: skip
    except CommandFailed as error:
        ctx.say(f"no certificate for the scratch etcd, it is open on loopback: {error.seen}")
        return TlsFiles()
    return TlsFiles(cert, key, cert)
