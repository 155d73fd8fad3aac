"""A host whose etcd is run by systemd, as a tree of files under a temporary root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.unit.rooted import Rooted

UNIT = "/etc/systemd/system/etcd.service"
PLAIN = "[Service]\nType=notify\nEnvironmentFile=-/etc/etcd.env\nExecStart=/usr/local/bin/etcd\n"
ENV = """\
# Environment file for etcd v3.5.30
ETCD_DATA_DIR=/var/lib/etcd
ETCD_NAME=m0
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.10:2380
ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.10:2379
ETCD_LISTEN_PEER_URLS=https://10.0.0.10:2380
ETCD_LISTEN_CLIENT_URLS=https://10.0.0.10:2379,https://127.0.0.1:2379
ETCD_INITIAL_CLUSTER_STATE=new
ETCD_INITIAL_CLUSTER=m0=https://10.0.0.10:2380
"""
REDHAT = """\
[Service]
Type=notify
WorkingDirectory=/var/lib/etcd/
EnvironmentFile=-/etc/etcd/etcd.conf
User=etcd
# set GOMAXPROCS to number of processors
ExecStart=/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\\"${ETCD_NAME}\\" \
--data-dir=\\"${ETCD_DATA_DIR}\\" --listen-client-urls=\\"${ETCD_LISTEN_CLIENT_URLS}\\""
Restart=on-failure
"""


def make_host(root: Path, files: Mapping[str, str | bytes]) -> Rooted:
    """A host with these files."""
    (root / "proc").mkdir(exist_ok=True)
    for path, content in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return Rooted(str(root))
