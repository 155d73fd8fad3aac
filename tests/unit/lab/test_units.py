"""The lab's units, read by the product as etcd under systemd would take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.platforms import detect
from agent.survey.units import unit_config
from tests.lab.etcd_versions import VERSIONS
from tests.lab.manifests import etcd_flags
from tests.lab.units import CONFS, conf_of, owner_of
from tests.unit.unit_host import make_host


@pytest.mark.parametrize("version", ["3.4", "3.5", "3.6"])
@pytest.mark.parametrize("conf", CONFS)
def test_every_way_says_the_same(tmp_path: Path, conf: str, version: str) -> None:
    flags = dict(flag[2:].split("=", 1) for flag in etcd_flags(1, VERSIONS[version], 1 << 30))
    files = {**CONFS[conf](flags), "/etc/hostname": "master-1\n"}
    host = make_host(tmp_path, files)
    config = unit_config(host, detect(host))
    expected = {**flags, "config-file": ""}
    if conf == "config-file":  # durations are numbers there, and are left out
        expected = {f: v for f, v in flags.items() if not f.endswith("-interval")}
    expected.pop("config-file", None)
    assert config.flags == expected
    assert config.name == "master-1"
    assert not [p for p in config.problems if "cannot" in p or "will not start" in p]
    assert all(source.startswith("/") and ":" in source for source in config.sources.values())


def test_ways_go_round_the_hosts() -> None:
    confs = "etcd.env,etcd.conf"
    assert [conf_of(confs, i) for i in range(3)] == ["etcd.env", "etcd.conf", "etcd.env"]
    assert [owner_of(confs, i) > 0 for i in range(3)] == [False, True, False]
    with pytest.raises(ValueError, match="none of"):
        conf_of("etcd.ini", 0)
