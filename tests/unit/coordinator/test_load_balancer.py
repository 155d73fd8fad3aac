"""What cluster.yaml says beside the hosts: the load balancer, and the inventory to keep up."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import UsageError
from coordinator.inventory import load_inventory

HOSTS = "hosts: [m0, m1]\n"


def load(tmp_path: Path, text: str) -> tuple[str, str, str]:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    found = load_inventory(path)
    lb = found.balancer
    return (lb.name if lb else "", lb.user if lb else "", found.ansible)


def test_neither_is_needed(tmp_path: Path) -> None:
    assert load(tmp_path, HOSTS) == ("", "", "")


def test_both_are_read_like_hosts_and_paths(tmp_path: Path) -> None:
    text = f"{HOSTS}ssh: {{user: core}}\nload_balancer: lb\nansible_inventory: hosts.ini\n"
    assert load(tmp_path, text) == ("lb", "core", str(tmp_path / "hosts.ini"))
    text = f"{HOSTS}load_balancer: {{name: lb, address: 192.0.2.9, user: root}}\n"
    assert load(tmp_path, text) == ("lb", "root", "")


@pytest.mark.parametrize(
    "text", ["load_balancer: [lb]\n", "load_balancer: {nme: lb}\n", "ansible_inventory: [x]\n"]
)
def test_what_does_not_fit_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"cluster\.yaml"):
        load(tmp_path, HOSTS + text)
