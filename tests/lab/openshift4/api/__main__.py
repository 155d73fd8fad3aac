"""Start the API on a host: `python3 -m api --config FILE` (JSON; see ApiConfig)."""

from __future__ import annotations

import argparse
import json
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from .faults import Faults
from .server import ApiServer
from .store import EtcdStore


@dataclass(frozen=True)
class ApiConfig:
    """Paths of certificates, and where etcd is. endpoints: HOST:PORT of every member."""

    listen: str
    port: int
    cert: str
    key: str
    client_ca: str
    endpoints: list[str]
    etcd_ca: str
    etcd_cert: str
    etcd_key: str
    faults: str = "/etc/lab-api/faults.json"


def server_tls(cert: str, key: str, client_ca: str) -> ssl.SSLContext:
    """TLS that demands a certificate of the cluster's client CA."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    tls.load_verify_locations(client_ca)
    tls.verify_mode = ssl.CERT_REQUIRED
    return tls


def main() -> None:
    """Read the configuration and serve for ever."""
    parser = argparse.ArgumentParser(prog="api")
    parser.add_argument("--config", type=Path, default=Path("/etc/lab-api/config.json"))
    config = ApiConfig(**json.loads(parser.parse_args().config.read_text()))
    tls = server_tls(config.cert, config.key, config.client_ca)
    files = (Path(config.etcd_ca), Path(config.etcd_cert), Path(config.etcd_key))
    store = EtcdStore.of_files(config.endpoints, *files)
    ApiServer((config.listen, config.port), tls, store, Faults(Path(config.faults))).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
