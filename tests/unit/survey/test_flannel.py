"""flannel's endpoints without an etcd: the URLs of one host leave, and not one byte more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Refused
from agent.survey.flannel import endpoints, hosts_of, without_endpoints

FIXTURES = Path(__file__).resolve().parents[4] / "shared/fixtures/flanneld"
A, B, C = (f"https://master-{i}.example.com:2379" for i in range(3))
B_HOST = "master-1.example.com"


@pytest.mark.parametrize("quote", ["", '"', "'"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", ""])
@pytest.mark.parametrize("key", ["FLANNEL_ETCD_ENDPOINTS", "FLANNEL_ETCD", "ETCD_ENDPOINTS"])
def test_only_its_url_leaves(quote: str, end: str, key: str) -> None:
    head = f"# {B}\nFLANNEL_ETCD_PREFIX=/x\n"
    before = f"{head}{key}={quote}{A},{B},{C}{quote}{end}"
    after = without_endpoints(before, {B_HOST, "192.0.2.12"})
    assert after == f"{head}{key}={quote}{A},{C}{quote}{end}"
    assert hosts_of(after) == ("master-0.example.com", "master-2.example.com")
    assert without_endpoints(after, {B_HOST}) == after


def test_the_first_and_the_last_of_the_list() -> None:
    text = f"FLANNEL_ETCD_ENDPOINTS={A}, {B}\n"
    assert without_endpoints(text, {B_HOST}) == f"FLANNEL_ETCD_ENDPOINTS={A}\n"
    after = without_endpoints(text, {"master-0.example.com"})
    assert endpoints(after) == (B,)


def test_none_left_is_refused() -> None:
    with pytest.raises(Refused, match="all of"):
        without_endpoints(f"FLANNEL_ETCD_ENDPOINTS={B}\n", {B_HOST})


def test_a_file_without_endpoints_stays() -> None:
    text = "#FLANNEL_ETCD_ENDPOINTS=x\nFLANNEL_OPTIONS=--iface=eth0\n"
    assert without_endpoints(text, {"x"}) == text


@given(
    st.lists(st.sampled_from([A, B, C, "http://192.0.2.1:2379"]), min_size=1, max_size=5),
    st.sampled_from(["", '"', "'"]),
)
def test_what_stays_is_in_its_order(urls: list[str], quote: str) -> None:
    text = f"X=1\nFLANNEL_ETCD_ENDPOINTS={quote}{','.join(urls)}{quote}\nY=2\n"
    kept = [url for url in urls if url != B]
    if not kept:
        with pytest.raises(Refused):
            without_endpoints(text, {B_HOST})
        return
    after = without_endpoints(text, {B_HOST})
    assert list(endpoints(after)) == kept
    assert after.startswith("X=1\n")
    assert after.endswith("\nY=2\n")


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no fixtures here")
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*")), ids=lambda p: p.name)
def test_files_of_others(path: Path) -> None:
    before = path.read_bytes().decode("utf-8", "surrogateescape")
    hosts = hosts_of(before)
    assert hosts
    for host in set(hosts):
        if set(hosts) == {host}:
            with pytest.raises(Refused):
                without_endpoints(before, {host})
            continue
        after = without_endpoints(before, {host})
        assert hosts_of(after) == tuple(h for h in hosts if h != host)
        changed = [
            (a, b) for a, b in zip(before.split("\n"), after.split("\n"), strict=True) if a != b
        ]
        assert len(changed) == 1
