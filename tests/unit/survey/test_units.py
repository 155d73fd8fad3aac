"""What an etcd under systemd will run with, merged from all the files that say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import Damaged, Refused
from agent.platforms import detect
from agent.survey.units import block_path, read_unit, read_view, unit_config, unit_digest
from tests.unit.unit_host import ENV, PLAIN, REDHAT, UNIT, make_host

DROPIN = "/etc/systemd/system/etcd.service.d/10-more.conf"
CONFIG = """\
# one file, and nothing else
name: m0
data-dir: /data
listen-peer-urls: https://10.0.0.10:2380
initial-cluster: 'm0=https://10.0.0.10:2380'
peer-transport-security:
  cert-file: /p.crt
  key-file: /p.key
  trusted-ca-file: /ca.crt
client-transport-security: {cert-file: /s.crt, key-file: /s.key, client-cert-auth: true}
cors:
"""


def test_an_environment_file(tmp_path: Path) -> None:
    host = make_host(tmp_path, {UNIT: PLAIN, "/etc/etcd.env": ENV})
    config = unit_config(host, detect(host))
    assert (config.definition, config.name, config.data_dir) == (UNIT, "m0", "/var/lib/etcd")
    assert config.initial_cluster == (("m0", "https://10.0.0.10:2380"),)
    assert config.sources["name"] == "/etc/etcd.env:3"
    assert config.program == "/usr/local/bin/etcd"
    assert config.files == (UNIT, "/etc/etcd.env")
    assert config.problems == ()


def test_order_of_environment_and_flags(tmp_path: Path) -> None:
    """A flag over a variable, a file over Environment=, a later file over an earlier one."""
    unit = (
        "[Service]\nEnvironmentFile=/a.env\nEnvironment=ETCD_NAME=unit ETCD_DATA_DIR=/unit\n"
        "Environment=\"ETCD_HEARTBEAT_INTERVAL=1\" 'ETCD_ELECTION_TIMEOUT=2'\n"
        "EnvironmentFile=-/missing.env\nEnvironmentFile=/b/*.env\n"
        "ExecStart=/usr/bin/etcd --heartbeat-interval=3\n"
    )
    host = make_host(
        tmp_path,
        {
            UNIT: unit,
            "/a.env": "ETCD_NAME=a\nETCD_WAL_DIR=/a\n",
            "/b/1.env": "ETCD_NAME=b1\nETCD_METRICS=b1\n",
            "/b/2.env": "ETCD_NAME=b2\n",
            "/b/x.conf": "ETCD_NAME=x\n",
        },
    )
    view = read_view(host, "etcd.service")
    assert view.values == {
        "name": "b2", "data-dir": "/unit", "heartbeat-interval": "3", "election-timeout": "2",
        "wal-dir": "/a", "metrics": "b1",
    }  # fmt: skip
    assert str(view.sources["heartbeat-interval"]) == f"{UNIT}:7"
    assert str(view.sources["name"]) == "/b/2.env:1"


def test_drop_ins(tmp_path: Path) -> None:
    """By file name, whatever directory; an empty assignment forgets; a masked one is left out."""
    base = "/etc/systemd/system/etcd.service.d"
    files = {
        "/usr/lib/systemd/system/etcd.service": PLAIN,
        f"{base}/20-b.conf": "[Service]\nEnvironment=ETCD_NAME=b\n",
        f"{base}/10-a.conf": "[Service]\nEnvironment=ETCD_NAME=a\nExecStart=\n"
        "ExecStart=/opt/etcd/etcd --data-dir /opt/data\n",
        "/usr/lib/systemd/system/etcd.service.d/20-b.conf": "[Service]\nEnvironment=ETCD_NAME=no\n",
        "/run/systemd/system/etcd.service.d/30-c.conf": "[Service]\nEnvironmentFile=\n",
        "/etc/systemd/system/service.d/05-all.conf": "[Service]\nEnvironment=ETCD_METRICS=basic\n",
        f"{base}/40-masked.conf": "",
        f"{base}/50-not.txt": "[Service]\nEnvironment=ETCD_NAME=no\n",
        "/etc/etcd.env": ENV,
    }
    host = make_host(tmp_path, files)
    config = unit_config(host, detect(host))
    assert config.definition == "/usr/lib/systemd/system/etcd.service"
    assert (config.name, config.data_dir, config.program) == ("b", "/opt/data", "/opt/etcd/etcd")
    assert config.flags["metrics"] == "basic"
    assert "initial-cluster" not in config.flags


def test_variables_in_exec_start(tmp_path: Path) -> None:
    unit = (
        "[Service]\nEnvironment=A=x MORE='--metrics basic --debug'\n"
        "ExecStart=-@/usr/bin/etcd etcd --name=${A} $MORE --data-dir=${NONE}/d --cors=$A \\\n"
        "  --logger=$$x\n"
    )
    view = read_view(make_host(tmp_path, {UNIT: unit}), "etcd.service")
    assert view.values == {
        "name": "x", "metrics": "basic", "debug": "true", "data-dir": "/d", "cors": "$A",
        "logger": "$x",
    }  # fmt: skip
    assert view.sources["name"].kind == "environment"
    assert view.sources["metrics"].fixed
    assert view.sources["data-dir"].fixed


def test_red_hats_unit_is_looked_through(tmp_path: Path) -> None:
    conf = ENV.replace("=m0\n", '="m0"\n', 1)
    host = make_host(
        tmp_path, {"/usr/lib/systemd/system/etcd.service": REDHAT, "/etc/etcd/etcd.conf": conf}
    )
    config = unit_config(host, detect(host))
    assert (config.name, config.data_dir, config.program) == (
        "m0", "/var/lib/etcd", "/usr/bin/etcd",
    )  # fmt: skip
    assert config.sources["name"] == "/etc/etcd/etcd.conf:3"
    assert [p for p in config.problems if "3.4 and later will not start" not in p] == []
    assert len(config.problems) == 3  # flags of which there are variables too


@pytest.mark.parametrize("given", ["--config-file /c.yml", "--config-file=/c.yml", "env"])
def test_a_configuration_file_is_all_that_counts(tmp_path: Path, given: str) -> None:
    flag = "" if given == "env" else given
    unit = f"[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/bin/etcd {flag} --name=no\n"
    env = ENV + ("ETCD_CONFIG_FILE=/c.yml\n" if given == "env" else "")
    host = make_host(tmp_path, {UNIT: unit, "/etc/etcd.env": env, "/c.yml": CONFIG})
    config = unit_config(host, detect(host))
    assert (config.name, config.data_dir) == ("m0", "/data")
    assert (config.peer_tls.cert, config.server_tls.key) == ("/p.crt", "/s.key")
    assert config.peer_tls.ca == "/ca.crt"
    assert config.sources["initial-cluster"] == "/c.yml:5"
    assert "advertise-client-urls" not in config.flags
    assert any("nothing else" in p and f"name ({UNIT}:3)" in p for p in config.problems)


@pytest.mark.parametrize(
    ("unit", "error", "told"),
    [
        ("[Service]\n", Damaged, "no ExecStart="),
        ("[Service]\nExecStart=/usr/local/bin/etcd_init_wrapper\n", Refused, "not etcd"),
        ("[Service]\nExecStart=/bin/sh -c 'etcd --name x 2>&1 >> /log'\n", Refused, "does more"),
        ("[Service]\nExecStart=/bin/sh -c 'sleep 1; etcd'\n", Refused, "does more"),
        ("[Service]\nExecStart=/bin/sh -c 'etcdctl x'\n", Refused, "not etcd"),
        ("[Service]\nExecStart=/bin/sh /start.sh\n", Refused, "shell script"),
        ("[Service]\nExecStart=/usr/bin/docker run etcd\n", Refused, "not etcd"),
        ("[Service]\nExecStart=/usr/bin/etcd --config-file=/no.yml\n", Damaged, "is missing"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, unit: str, error: type[Exception], told: str) -> None:
    host = make_host(tmp_path, {UNIT: unit})
    with pytest.raises(error, match=told):
        unit_config(host, detect(host))
    config, _, problems = read_unit(host, detect(host))
    assert config is None
    assert told in "".join(problems)


@pytest.mark.parametrize(
    "bad",
    ["name: [a, [b]]\n", "name: a\nname: b\n", "name: {a: b}\n", "a: !!python/name:os.system\n"],
)
def test_a_bad_configuration_file(tmp_path: Path, bad: str) -> None:
    unit = "[Service]\nExecStart=/usr/bin/etcd --config-file=/c.yml\n"
    host = make_host(tmp_path, {UNIT: unit, "/c.yml": bad})
    with pytest.raises(Damaged, match=r"/c\.yml: line"):
        unit_config(host, detect(host))


def test_missing_masked_and_held(tmp_path: Path) -> None:
    host = make_host(tmp_path, {"/etc/etcd.env": ENV})
    platform = detect(host)
    assert platform.name == "systemd"
    assert "no unit etcd.service" in read_unit(host, platform)[2][0]
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / UNIT[1:]).symlink_to("/dev/null")
    assert "systemctl unmask" in read_unit(host, detect(host))[2][0]
    (tmp_path / UNIT[1:]).unlink()
    make_host(tmp_path, {UNIT: PLAIN})
    before = unit_digest(host, "etcd.service")
    assert read_unit(host, detect(host))[0] is not None
    make_host(tmp_path, {block_path("etcd.service"): "[Unit]\nAssertPathExists=!/\n"})
    assert read_unit(host, detect(host)) == (None, (), ())
    assert unit_digest(host, "etcd.service") == before
    make_host(tmp_path, {"/etc/etcd.env": ENV + "\n"})
    assert unit_digest(host, "etcd.service") != before


def test_a_second_unit_that_boots_is_a_stray(tmp_path: Path) -> None:
    other = "/etc/systemd/system/etcd3.service"
    files = {UNIT: PLAIN, "/etc/etcd.env": ENV, other: PLAIN}
    host = make_host(tmp_path, files)
    assert read_unit(host, detect(host))[1] == ()
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "etcd3.service").symlink_to(other)
    (stray,) = read_unit(host, detect(host))[1]
    assert stray.path == other


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({UNIT: PLAIN, "/etc/kubernetes/manifests/kube-apiserver.yaml": "x"}, "systemd"),
        ({UNIT: PLAIN, "/etc/kubernetes/manifests/etcd.yaml": "x"}, "kubeadm"),
        ({UNIT: PLAIN, "/etc/kubernetes/pki/etcd/ca.crt": "x"}, "kubeadm"),
        ({"/etc/systemd/system/etcd-member.service": PLAIN}, "systemd"),
        ({"/etc/default/etcd": ""}, "systemd"),
        (
            {
                UNIT: PLAIN,
                "/var/lib/etcd-rescue/parked/p-03-etcd.yaml": "x",
                "/etc/kubernetes/manifests/kube-apiserver.yaml": "x",
            },
            "kubeadm",
        ),
    ],
)
def test_which_platform(tmp_path: Path, files: dict[str, str | bytes], name: str) -> None:
    assert detect(make_host(tmp_path, files)).name == name


def test_kubesprays_client_certificate(tmp_path: Path) -> None:
    folder = "/etc/ssl/etcd/ssl"
    pairs = [f"{folder}/{n}" for n in ("admin-a.pem", "admin-m0.pem", "member-m0.pem")]
    files: dict[str, str | bytes] = {UNIT: PLAIN, "/etc/hostname": "m0\n", f"{folder}/ca.pem": "x"}
    for path in pairs:
        files |= {path: "x", path.replace(".pem", "-key.pem"): "x"}
    tls = (
        f"ETCD_CERT_FILE={pairs[2]}\nETCD_KEY_FILE={pairs[2][:-4]}-key.pem\n"
        f"ETCD_TRUSTED_CA_FILE={folder}/ca.pem\n"
    )
    host = make_host(tmp_path, {**files, "/etc/etcd.env": ENV + tls})
    platform = detect(host)
    found = platform.client_tls(host, unit_config(host, platform))
    assert (found.cert, found.ca) == (pairs[1], f"{folder}/ca.pem")
