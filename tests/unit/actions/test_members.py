"""Membership through the etcd of this host, which may be about to start."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from agent.actions import members
from agent.actions.base import Context
from agent.platforms.kubeadm import Kubeadm
from tests.unit.rooted import MANIFEST, kubeadm_host


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(kubeadm_host(tmp_path), Kubeadm(), "0123456789ab", "01", lambda text: None)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_an_etcd_that_is_about_to_start_is_waited_for(ctx: Context) -> None:
    port = free_port()
    heard: list[float] = []

    def listen() -> None:
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)) as server:
            server.accept()[0].close()
            heard.append(time.monotonic())

    thread = threading.Thread(target=listen)
    thread.start()
    members._let_it_start(ctx, f"https://127.0.0.1:{port}")
    thread.join(10)
    assert heard


def test_without_a_definition_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = kubeadm_host(tmp_path)
    said: list[str] = []
    (tmp_path / MANIFEST[1:]).rename(tmp_path / "away.yaml")
    monkeypatch.setattr(members, "START_SECONDS", 2.0)
    alone = Context(host, Kubeadm(), "0123456789ab", "01", said.append)
    members._let_it_start(alone, f"https://127.0.0.1:{free_port()}")
    assert said == []


def test_one_that_does_not_come_ends_the_wait(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "START_SECONDS", 0.2)
    members._let_it_start(ctx, f"https://127.0.0.1:{free_port()}")
