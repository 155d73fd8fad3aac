"""The join command: what kubeadm prints is taken whole or not at all, and shown on request only."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.entry.joining import (
    ADMIN_CONF,
    is_join,
    join,
    join_config,
    make_join_command,
    parse_join,
    without_secrets,
)
from agent.errors import CommandFailed, PreconditionFailed, Refused, StepFailed
from agent.host import Completed, Host
from tests.lab.kubeadm_build import kubeadm_program

KEY, TOKEN, HASH = "8f" * 32, "abcdef.0123456789abcdef", "sha256:" + "1a" * 32
UPLOADED = (
    f"[upload-certs] Storing the certificates\n[upload-certs] Using certificate key:\n{KEY}\n"
)
PRINTED = f"kubeadm join 10.0.0.10:6443 --token {TOKEN} --discovery-token-ca-cert-hash {HASH} \n"
WORDS = [*PRINTED.split(), "--control-plane", "--certificate-key", KEY]


class Kubeadm(Host):
    """A host whose kubeadm says what it is told to."""

    def __init__(self, root: Path, *said: str) -> None:
        super().__init__(str(root))
        self.said, self.asked = list(said), list[list[str]]()
        (root / "etc/kubernetes/manifests").mkdir(parents=True)

    def which(self, name: str) -> str:
        return "/usr/bin/kubeadm" if self.said else ""

    def run(self, argv: Any, *args: Any, **words: Any) -> Completed:
        self.asked.append(list(argv))
        said = self.said.pop(0)
        if said.startswith("!"):
            raise CommandFailed(f"`{' '.join(argv)}` ended with exit code 1: {said}")
        return Completed(tuple(argv), 0, said, "")


def quiet(_text: str) -> None:
    return


def test_a_command_is_made_of_both_answers(tmp_path: Path) -> None:
    host = Kubeadm(tmp_path, UPLOADED, PRINTED)
    (tmp_path / ADMIN_CONF[1:]).write_text("")
    assert make_join_command(host, quiet) == WORDS
    assert not [argv for argv in host.asked if KEY in " ".join(argv)]


def test_it_needs_kubeadm_and_its_configuration(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match="has no kubeadm"):
        make_join_command(Kubeadm(tmp_path / "a"), quiet)
    with pytest.raises(PreconditionFailed, match=r"admin\.conf"):
        make_join_command(Kubeadm(tmp_path / "b", UPLOADED, PRINTED), quiet)


@pytest.mark.parametrize("said", ["", "no key here\n", UPLOADED + KEY])
def test_an_answer_without_one_key_is_refused(tmp_path: Path, said: str) -> None:
    host = Kubeadm(tmp_path, said or " ", PRINTED)
    (tmp_path / ADMIN_CONF[1:]).write_text("")
    with pytest.raises(StepFailed, match="certificate keys"):
        make_join_command(host, quiet)


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "kubeadm join\n",
        PRINTED + PRINTED,
        PRINTED.replace("kubeadm join", "kubeadm reset"),
        PRINTED.replace("10.0.0.10:6443", "10.0.0.10:6443;id"),
        PRINTED.replace(TOKEN, "$(id)"),
        PRINTED.strip() + " --config /tmp/evil\n",
        PRINTED.strip() + " --discovery-token-unsafe-skip-ca-verification\n",
        f"kubeadm join 10.0.0.10:6443 --token {TOKEN}\n",
    ],
)
def test_what_is_no_join_is_not_run_anywhere(printed: str) -> None:
    with pytest.raises(StepFailed):
        parse_join(printed)


def test_two_lines_are_one_command() -> None:
    assert parse_join(PRINTED.replace(" --discovery", " \\\n\t--discovery")) == PRINTED.split()


def test_ipv6_and_names_are_endpoints() -> None:
    for endpoint in ("[fd00::10]:6443", "api.example.com:6443"):
        assert is_join(PRINTED.replace("10.0.0.10:6443", endpoint).split())


@pytest.mark.parametrize("path", ["kubelet.conf", "manifests/etcd.yaml"])
def test_a_host_with_an_earlier_life_is_not_joined(tmp_path: Path, path: str) -> None:
    host = Kubeadm(tmp_path, "")
    host.said = ["joined"]
    (tmp_path / "etc/kubernetes" / path).write_text("")
    with pytest.raises(PreconditionFailed, match="earlier life"):
        join(host, WORDS, quiet)
    assert host.asked == []


DEFAULTS = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n"


class Joined(Kubeadm):
    """Keeps the config that it was given."""

    config: Any = None

    def run(self, argv: Any, *args: Any, **words: Any) -> Completed:
        if argv[-2:-1] == ["--config"]:
            path = Path(self.real(argv[-1]))
            assert path.stat().st_mode & 0o777 == 0o600
            self.config = yaml.safe_load(path.read_text())
        return super().run(argv, *args, **words)


def test_a_join_is_run_from_a_file_that_is_gone_after(tmp_path: Path) -> None:
    host = Joined(tmp_path, DEFAULTS, "joined")
    (tmp_path / "var/lib").mkdir(parents=True)
    join(host, WORDS, quiet)
    assert not [word for argv in host.asked for word in argv if word in (TOKEN, KEY)]
    told = host.config["discovery"]["bootstrapToken"]
    assert told == {
        "apiServerEndpoint": "10.0.0.10:6443", "token": TOKEN, "caCertHashes": [HASH],
    }  # fmt: skip
    assert host.config["controlPlane"] == {"certificateKey": KEY}
    assert not [p for p in (tmp_path / "var").rglob("*") if p.is_file()]
    with pytest.raises(Refused):
        join(host, WORDS[:-3], quiet)


@pytest.mark.skipif(not kubeadm_program(), reason="no kubeadm was built, and KUBEADM names none")
def test_kubeadm_itself_takes_that_file(tmp_path: Path) -> None:
    config = tmp_path / "join.yaml"
    config.write_text(join_config(WORDS, "kubeadm.k8s.io/v1beta4"))
    argv = [kubeadm_program(), "config", "validate", "--config", str(config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.reliability("Secrets", "a join that fails is told of without its token and its key")
def test_a_failure_does_not_show_the_secrets(tmp_path: Path) -> None:
    host = Kubeadm(tmp_path, DEFAULTS, f"!bad token {TOKEN} and {KEY}")
    (tmp_path / "var/lib").mkdir(parents=True)
    with pytest.raises(CommandFailed) as failed:
        join(host, WORDS, quiet)
    assert TOKEN not in str(failed.value)
    assert KEY not in str(failed.value)
    assert "(token)" in str(failed.value)
    assert HASH in without_secrets(HASH)
