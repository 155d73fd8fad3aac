"""A member that runs on this host and answers: found, and its snapshot streamed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO, Optional

from agent.errors import RescueError
from agent.etcd.client import EtcdClient, Status
from agent.etcd.transport import RealFiles, real_files
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.snapshot.grpc_stream import iter_snapshot
from agent.snapshot.hashing import hasher
from agent.snapshot.verify import Say
from agent.survey.online import local_endpoints

_CHUNK = 1024 * 1024
_SAY_EVERY = 256 * 1024 * 1024


@dataclass(frozen=True)
class RunningMember:
    """endpoints: client URLs that speak gRPC. quorum: a read through the quorum worked."""

    endpoints: tuple[str, ...]
    tls: RealFiles
    status: Status
    quorum: bool


def find_running(host: Host, config: EtcdConfig) -> Optional[RunningMember]:
    """The member of this host if it answers, through the first endpoint that does."""
    tls = real_files(host, config.client_tls)
    # --listen-client-http-urls takes HTTP, and only HTTP, away from the other client URLs.
    speak_grpc = local_endpoints(replace(config, flags={}))
    for endpoint in local_endpoints(config):
        try:
            with EtcdClient(endpoint, tls, timeout=3.0) as client:
                status = client.status()
                quorum = _has_quorum(client)
        except RescueError:
            continue
        first = (endpoint,) if endpoint in speak_grpc else ()
        endpoints = dict.fromkeys((*first, *speak_grpc))
        return RunningMember(tuple(endpoints), tls, status, quorum)
    return None


def _has_quorum(client: EtcdClient) -> bool:
    try:
        return client.linearizable_read()
    except RescueError:
        return False


def stream_snapshot(member: RunningMember, file: BinaryIO, say: Say) -> str:
    """Write the member's snapshot to `file`, hashed while it is written; the sha256 of all of it.

    Raises EtcdError where the stream breaks.
    """
    done, told = 0, 0
    with hasher() as hashing:
        batch = bytearray()
        for blob, left in iter_snapshot(member.endpoints[0], member.tls):
            batch += blob
            if len(batch) >= _CHUNK or left == 0:
                data = bytes(batch)
                batch.clear()
                hashing.update(data)
                file.write(data)
                done += len(data)
            if done - told >= _SAY_EVERY:
                told = done
                say(f"snapshot: {done >> 20} of {(done + left) >> 20} MiB")
        return hashing.finish()
