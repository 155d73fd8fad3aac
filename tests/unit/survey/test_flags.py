"""etcd's command line and environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.survey.flags import from_environment, is_boolean, is_true, parse_argv


@pytest.mark.parametrize(
    ("argv", "values", "stray"),
    [
        (["--name=a", "-data-dir=/d"], {"name": "a", "data-dir": "/d"}, ""),
        (["--name", "a", "-data-dir", "/d"], {"name": "a", "data-dir": "/d"}, ""),
        (["--client-cert-auth", "--name=a"], {"client-cert-auth": "true", "name": "a"}, ""),
        (["--force-new-cluster", "false"], {"force-new-cluster": "true"}, "false"),
        (["--name=a", "--name=b"], {"name": "b"}, ""),
        (["--name="], {"name": ""}, ""),
        (["--initial-cluster=a=http://x:1"], {"initial-cluster": "a=http://x:1"}, ""),
        (["--unknown"], {"unknown": "true"}, ""),
        (["--name a"], {"name a": "true"}, ""),
        (["--name=a", "--", "--x=1"], {"name": "a"}, "--"),
        (["grpc-proxy", "--x=1"], {}, "grpc-proxy"),
        (["---name=a"], {}, "---name=a"),
        ([], {}, ""),
    ],
)
def test_argv(argv: list[str], values: dict[str, str], stray: str) -> None:
    line = parse_argv(argv)
    assert line.values() == values
    assert line.stray == stray


def test_places() -> None:
    line = parse_argv(["--a", "1", "--b=2", "--client-cert-auth", "--b=3"])
    assert [(f.name, f.index, f.value_index) for f in line.given] == [
        ("a", 0, 1), ("b", 2, None), ("client-cert-auth", 3, None), ("b", 4, None),
    ]  # fmt: skip
    assert line.repeated() == ("b",)


@given(st.lists(st.text(max_size=8), max_size=8))
def test_any_arguments_are_read(argv: list[str]) -> None:
    line = parse_argv(argv)
    assert all(flag.index < len(argv) for flag in line.given)


def test_environment() -> None:
    env = {
        "ETCD_NAME": "a", "ETCD_INITIAL_CLUSTER_STATE": "existing", "ETCD_DATA_DIR": "",
        "ETCD_UNSUPPORTED_ARCH": "arm64", "ETCDCTL_API": "3", "PATH": "/bin",
    }  # fmt: skip
    assert from_environment(env) == {"name": "a", "initial-cluster-state": "existing"}


@pytest.mark.parametrize("value", ["1", "t", "T", "true", "TRUE", "True", "yes", "maybe"])
def test_truthy(value: str) -> None:
    assert is_true(value)


@pytest.mark.parametrize("value", ["", "0", "f", "F", "false", "FALSE", "False"])
def test_falsy(value: str) -> None:
    assert not is_true(value)
    assert is_boolean(value) == (value != "")
