"""etcd's keys of API 2, which clusters upgraded from older versions still have."""

from __future__ import annotations

import http.client
import json
from typing import Optional
from urllib.parse import urlsplit

from agent.errors import CommandFailed, RescueError
from agent.etcd.transport import real_files, tls_context
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.survey.online import local_endpoint

NONE, SAVED, OFF, UNKNOWN = "none", "saved", "off", "unknown"


def has_v2(host: Host, config: EtcdConfig) -> tuple[str, str]:
    """(NONE, SAVED for "there are keys", OFF or UNKNOWN; what was seen), asked of API 2 itself.

    A store whose API 2 is switched off (--enable-v2=false, the default since 3.4) answers 404.
    """
    url = urlsplit(local_endpoint(config))
    name, port = url.hostname or "127.0.0.1", url.port or 2379
    connection: http.client.HTTPConnection
    try:
        if url.scheme == "https":
            context = tls_context(real_files(host, config.client_tls))
            connection = http.client.HTTPSConnection(name, port, timeout=5, context=context)
        else:
            connection = http.client.HTTPConnection(name, port, timeout=5)
        try:
            connection.request("GET", "/v2/keys/")
            answer = connection.getresponse()
            data = answer.read(4 * 1024 * 1024)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, RescueError) as error:
        return UNKNOWN, f"API 2 does not answer: {error}"
    return _judge(answer.status, data)


def _judge(status: int, data: bytes) -> tuple[str, str]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if status == 404 and not isinstance(told, dict):
        return OFF, "API 2 is switched off (--enable-v2): keys of it, if any, are read by nobody"
    nodes = told.get("node", {}).get("nodes") if isinstance(told, dict) else None
    if status == 200 and isinstance(told, dict):
        return (SAVED, f"{len(nodes)} top keys of API 2") if nodes else (NONE, "no key of API 2")
    return UNKNOWN, f"API 2 says {status}"


def save_v2(host: Host, etcdctl: str, data_dir: str, target: str) -> Optional[str]:
    """`etcdctl backup` of API 2 into the new directory `target`; why it failed, or None.

    It reads the data directory, and rewrites node and cluster ID, so that what is started from it
    joins nobody.
    """
    argv = [etcdctl, "backup", "--data-dir", data_dir, "--backup-dir", target]
    try:
        host.run(argv, timeout=600, env={"ETCDCTL_API": "2"})
    except (CommandFailed, OSError) as error:
        return str(error).splitlines()[0]
    if not host.exists(f"{target}/member/snap") and not host.exists(f"{target}/member/wal"):
        return f"etcdctl left nothing in {target}"
    return None
