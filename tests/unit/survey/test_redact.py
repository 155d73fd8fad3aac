from __future__ import annotations

import pytest

from agent.survey.flags import from_environment, parse_argv
from agent.survey.loglines import normalise
from agent.survey.redact import HIDDEN, shown_argv

SECRET = "s3cr3t-9f"


@pytest.mark.reliability(
    "Secrets", "an ETCD_* variable that is no flag of etcd's shows its name and not its value"
)
@pytest.mark.parametrize(
    ("variable", "shown"),
    [
        ("ETCD_ROOT_PASSWORD", {"root-password": HIDDEN}),
        ("ETCD_DISCOVERY_PASSWORD", {"discovery-password": HIDDEN}),
        ("ETCD_DISCOVERY", {"discovery": HIDDEN}),
        ("ETCDCTL_PASSWORD", {}),
        ("ETCD_NAME", {"name": SECRET}),
        ("ETCD_EXPERIMENTAL_NEW", {"experimental-new": SECRET}),
    ],
)
def test_variables(variable: str, shown: dict[str, str]) -> None:
    assert from_environment({variable: SECRET}) == shown


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (("etcd", f"--discovery-password={SECRET}"), ("etcd", f"--discovery-password={HIDDEN}")),
        (("etcd", "--discovery-token", SECRET, "--name=a"),
         ("etcd", "--discovery-token", HIDDEN, "--name=a")),
        (("etcd", "-discovery-user", SECRET, "x"), ("etcd", "-discovery-user", HIDDEN, "x")),
        (("etcd", "--name=discovery", "--discovery="),
         ("etcd", "--name=discovery", "--discovery=")),
    ],
)  # fmt: skip
def test_command_lines(argv: tuple[str, ...], shown: tuple[str, ...]) -> None:
    assert shown_argv(argv) == shown
    assert SECRET not in repr(parse_argv(argv[1:]).values())


LINES = (
    '{"level":"info","msg":"recognized and used environment variable",'
    f'"variable-name":"ETCD_ROOT_PASSWORD","variable-value":"{SECRET}"}}',
    '{"level":"warn","msg":"unrecognized environment variable",'
    f'"environment-variable":"ETCD_X={SECRET}"}}',
    f"2020-01-02 03:04:05.678901 W | pkg/flags: unrecognized environment variable ETCD_X={SECRET}",
    "2020-01-02 03:04:05.678901 I | pkg/flags: recognized and used environment variable "
    f"ETCD_ROOT_PASSWORD={SECRET}",
    "2020-01-02T03:04:05.678Z\tinfo\tflags/flag.go:113\trecognized and used environment variable"
    f'\t{{"variable-name": "ETCD_X", "variable-value": "{SECRET}"}}',
    "E0102 03:04:05.678901 1234 kuberuntime_manager.go:1256] container &Container{Name:etcd,"
    f"Env:[]EnvVar{{EnvVar{{Name:A,Value:{SECRET},ValueFrom:nil,}},EnvVar{{Name:B,Value:{SECRET},}},"
    "},} start failed in pod etcd-m0",
)


@pytest.mark.reliability("Secrets", "no value of an environment variable comes out of a log")
@pytest.mark.parametrize("raw", LINES)
def test_log_lines(raw: str) -> None:
    message = normalise(raw).message
    assert SECRET not in message
    assert "environment variable" in message or "start failed in pod etcd-m0" in message
