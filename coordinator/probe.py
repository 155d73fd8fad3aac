"""What can be seen of a host from here without logging in: "SSH down" is not "etcd down"."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from agent.model.facts import Sighting

PORTS = (22, 2379, 2380)
"""sshd, etcd's clients, etcd's peers."""

_GRACE = 0.5


def probe_ports(address: str, ports: Sequence[int] = PORTS, timeout: float = 1.5) -> Sighting:
    """Try a TCP connection to every port at once.

    open_ports accepted it. closed_ports refused it: something at that address is up, and nothing
    listens there. A port in neither did not answer within `timeout` seconds (host down, no route,
    a firewall that drops, or a name that does not resolve).
    """
    pool = ThreadPoolExecutor(len(ports) or 1, thread_name_prefix="probe")
    try:
        attempts = {port: pool.submit(_answer, address, port, timeout) for port in ports}
        wait(attempts.values(), timeout + _GRACE)  # a lookup of the name may take longer
        answers = {p: future.result() for p, future in attempts.items() if future.done()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    opened = tuple(port for port in ports if answers.get(port) is True)
    closed = tuple(port for port in ports if answers.get(port) is False)
    return Sighting(socket.gethostname(), address, opened, closed)


def _answer(address: str, port: int, timeout: float) -> bool | None:
    """True: accepted, False: refused, None: no answer."""
    try:
        socket.create_connection((address, port), timeout).close()
    except ConnectionRefusedError:
        return False
    except (OSError, UnicodeError):
        return None
    return True
