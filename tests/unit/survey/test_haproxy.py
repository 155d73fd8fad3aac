"""haproxy.cfg without a master: its server lines leave, and not one byte more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Refused
from agent.survey.haproxy import lines_of, of_host, ports_to, sections, servers, without_host

FIXTURES = Path(__file__).resolve().parents[4] / "shared/fixtures/haproxy"
CFG = """\
global
    maxconn 20000   # ours
defaults
    mode http

listen stats :9000
    stats enable

frontend  atomic-openshift-api
    bind *:443
    default_backend atomic-openshift-api

# MASTERS 8443
backend atomic-openshift-api
    balance source
    mode tcp
    server      master0 192.0.2.22:8443 check  # the oldest
    server      master1 192.0.2.23:8443 check
\tserver master2\tmaster2.example.com:8443 check backup

listen mgmt
    bind 10.0.0.1:8444,:8445
    server a 192.0.2.22:8443
    server b 192.0.2.23:8443
"""


def test_every_backend_that_names_the_host_loses_its_line() -> None:
    after = without_host(CFG, ["master0.example.com", "192.0.2.22"])
    wanted = CFG.replace("    server      master0 192.0.2.22:8443 check  # the oldest\n", "")
    assert after == wanted.replace("    server a 192.0.2.22:8443\n", "")
    assert without_host(after, ["192.0.2.22"]) == after


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_line_ends_and_a_missing_last_one_stay(end: str) -> None:
    text = CFG.replace("\n", end).rstrip("\r\n")
    after = without_host(text, ["192.0.2.22"])
    assert after.count(end) == text.count(end) - 2
    assert not after.endswith("\n")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["master2"], ["master2"]),
        (["master2.example.com"], ["master2"]),
        (["master2.other.org"], []),
        (["192.0.2.2"], []),
        (["master0"], []),  # a server's own name proves nothing
        (["::ffff:1"], []),
    ],
)
def test_who_is_meant(names: list[str], found: list[str]) -> None:
    assert [server.name for server in of_host(CFG, names)] == found


def test_ports_lead_to_backends() -> None:
    assert ports_to(CFG, {"backend atomic-openshift-api"}) == [443]
    assert ports_to(CFG, {"listen mgmt"}) == [8444, 8445]
    assert ("listen", "stats", (9000,), ()) in [
        (s.kind, s.name, s.binds, s.leads_to) for s in sections(CFG)
    ]


def test_the_last_server_is_not_taken() -> None:
    text = "backend b\n server x 192.0.2.1:1\nbackend c\n server x 192.0.2.1:1\n server y h:1\n"
    with pytest.raises(Refused, match="backend b would have no server left"):
        without_host(text, ["192.0.2.1"])


def test_an_address_that_only_the_environment_knows_is_refused() -> None:
    text = "backend b\n server master0 ${IP0}:6443\n server master1 192.0.2.1:6443\n"
    with pytest.raises(Refused, match="IP0"):
        without_host(text, ["master0.example.com", "192.0.2.9"])
    assert without_host(text, ["other", "192.0.2.9"]) == text


def test_commented_and_quoted_lines_are_no_servers() -> None:
    text = 'backend b\n# server a 192.0.2.1:1\n http-request set-header X "server a 192.0.2.1:1"\n'
    assert servers(text) == []
    assert without_host(text, ["192.0.2.1"]) == text


@given(st.text(st.sampled_from("server b 192.0.2.1:\n\r\t#\"'\\backend"), max_size=200))
def test_lines_make_up_the_text(text: str) -> None:
    assert "".join(text[line.start : line.end] for line in lines_of(text)) == text


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no fixtures here")
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.cfg")), ids=lambda p: p.name)
def test_files_of_others_lose_a_host_and_nothing_else(path: Path) -> None:
    before = path.read_bytes().decode("utf-8", "surrogateescape")
    for server in servers(before):
        if "$" in server.address:
            with pytest.raises(Refused):
                without_host(before, [server.name, server.address])
            continue
        gone = of_host(before, [server.address])
        assert server in gone
        left = {s.section for s in servers(before) if s not in gone}
        if {s.section for s in gone} - left:
            with pytest.raises(Refused, match="no server left"):
                without_host(before, [server.address])
            continue
        after = without_host(before, [server.address])
        cut = before
        for one in sorted(gone, key=lambda s: -s.line.start):
            cut = cut[: one.line.start] + cut[one.line.end :]
        assert after == cut
        assert [s.address for s in servers(after)] == [
            s.address for s in servers(before) if s not in gone
        ]
