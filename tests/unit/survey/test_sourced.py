"""A pod that sources etcd.conf: what a shell gets out of the file, and where each value stands."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.platforms import detect
from agent.survey.sourcefile import parse_sourced
from agent.survey.watched import read_watched
from tests.unit.host311 import CONF, MANIFEST, POD, SETTINGS, master

FIXTURES = Path(__file__).resolve().parents[4] / "shared/fixtures/ocp311-etcdconf"
BASH = shutil.which("bash")


def values(text: str) -> dict[str, str]:
    return {a.name: a.value for a in parse_sourced(text).assignments}


@pytest.mark.parametrize(
    ("text", "expected", "unknown"),
    [
        ("A=b\n", {"A": "b"}, ()),
        ("  export A='b c'\n", {"A": "b c"}, ()),
        ('A="b\\"c\\$"\nB=x"y"\'z\'\n', {"A": 'b"c$', "B": "xyz"}, ()),
        ("A=b # said\n#B=c\n\n", {"A": "b"}, ()),
        ("A=b#c\n", {"A": "b#c"}, ()),
        ("A=\nB=1\n", {"A": "", "B": "1"}, ()),
        ("A=1\r\nB=2\r\n", {"A": "1\r", "B": "2\r"}, ()),
        ("A=$B\nC=$(date)\nD=`x`\n", {}, (1, 2, 3)),
        ("A = b\n", {}, (1,)),
        ("A=b c\n", {}, (1,)),
        ("if true; then\nA=1\nfi\n", {"A": "1"}, (1, 3)),
        ('A="b\nc"\n', {}, (1, 2)),
        ("A=1; B=2\n", {}, (1,)),
    ],
)
def test_what_is_known_of_a_file(
    text: str, expected: dict[str, str], unknown: tuple[int, ...]
) -> None:
    assert (values(text), parse_sourced(text).unknown) == (expected, unknown)


@pytest.mark.skipif(BASH is None, reason="no bash")
@given(st.lists(st.text(st.sampled_from("ab='\"\\$# \t-,:/"), max_size=12), max_size=4))
def test_a_shell_gets_the_same(written: list[str]) -> None:
    text = "".join(f"V{i}={value}\n" for i, value in enumerate(written))
    if parse_sourced(text).unknown:
        return
    names = [f"V{i}" for i in range(len(written))]
    show = "".join(f'printf "%s\\0" "${{{name}}}"\n' for name in names)
    done = subprocess.run([str(BASH), "-c", text + show], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [values(text)[name] for name in names]


def test_a_pod_and_its_file_are_one_definition(tmp_path: Path) -> None:
    host = master(tmp_path)
    platform = detect(host)
    config, strays, problems = read_watched(host, platform)
    assert (platform.name, platform.definition_kind, strays, problems) == (
        "openshift311", "sourced", (), (),
    )  # fmt: skip
    assert config is not None
    assert (config.definition, config.files) == (POD, (POD, CONF))
    assert (config.name, config.data_dir) == ("master-0.example.com", "/var/lib/etcd")
    assert config.initial_cluster == (("master-0.example.com", "https://192.0.2.8:2380"),)
    assert config.sources["initial-cluster-state"] == f"{CONF}:10"
    assert config.client_tls.cert == "/etc/etcd/peer.crt"
    before = config.sha256
    (tmp_path / CONF[1:]).write_text(SETTINGS + "ETCD_DEBUG=true\n")
    after = read_watched(host, platform)[0]
    assert after is not None
    assert after.sha256 != before


def test_the_node_configuration_says_where_pods_are(tmp_path: Path) -> None:
    text = "kubeletArguments:\n  pod-manifest-path:\n  - /srv/pods\n"
    host = master(tmp_path, {"/etc/origin/node/node-config.yaml": text, "/srv/pods/etcd.yaml": "x"})
    assert detect(host).manifest == "/srv/pods/etcd.yaml"


def test_without_a_pod_the_unit_counts(tmp_path: Path) -> None:
    host = master(tmp_path, pod=False)
    platform = detect(host)
    assert (platform.name, platform.definition_kind, platform.unit) == (
        "openshift311", "unit", "etcd.service",
    )  # fmt: skip
    config = read_watched(host, platform)[0]
    assert config is not None
    assert config.name == "master-0.example.com"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (MANIFEST.replace("exec etcd", "etcd --version && exec etcd"), "script"),
        (MANIFEST.replace("exec etcd", "exec etcd\n      rm -rf /"), "script"),
        (MANIFEST.replace("source /etc/etcd/etcd.conf", "source /nowhere"), "in no volume"),
        (MANIFEST.replace("source /etc/etcd/etcd.conf", "source /etc/etcd/x"), "is missing"),
    ],
)
def test_another_script_is_not_guessed_at(tmp_path: Path, manifest: str, said: str) -> None:
    host = master(tmp_path, {POD: manifest})
    config, _strays, problems = read_watched(host, detect(host))
    assert config is None
    assert said in "; ".join(problems)


def test_lines_that_are_no_settings_are_told(tmp_path: Path) -> None:
    host = master(tmp_path, {CONF: SETTINGS + "ulimit -n 9\n"})
    config = read_watched(host, detect(host))[0]
    assert config is not None
    number = SETTINGS.count("\n") + 1
    assert any(p.startswith(f"{CONF}:{number}: neither") for p in config.problems)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no fixtures here")
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.conf")), ids=lambda p: p.name)
def test_files_of_others_are_read_or_told_of(path: Path, tmp_path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    host = master(tmp_path, {CONF: ""})
    (tmp_path / CONF[1:]).write_bytes(path.read_bytes())
    config = read_watched(host, detect(host))[0]
    given = [a for a in parse_sourced(text).assignments if a.name == "ETCD_NAME"]
    assert config is not None
    if given and given[-1].value:
        assert config.name == given[-1].value


def test_a_pipe_in_place_of_the_file_holds_nothing_up(tmp_path: Path) -> None:
    host = master(tmp_path)
    (tmp_path / CONF[1:]).unlink()
    os.mkfifo(tmp_path / CONF[1:])
    problems = read_watched(host, detect(host))[2]
    assert "no regular file" in "; ".join(problems)
