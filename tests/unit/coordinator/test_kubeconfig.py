"""The operator's kubeconfig as one text that a host can use."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.errors import UsageError
from coordinator.kubeconfig import read_kubeconfig


def config(**user: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "admin",
        "clusters": [
            {"name": "other", "cluster": {"server": "https://other:6443"}},
            {"name": "prod", "cluster": {"server": "https://api:6443",
                                         "certificate-authority": "pki/ca.crt"}},
        ],
        "contexts": [{"name": "admin", "context": {"cluster": "prod", "user": "me"}}],
        "users": [{"name": "other", "user": {"token": "not-mine"}}, {"name": "me", "user": user}],
    }  # fmt: skip


def written(tmp_path: Path, value: Any) -> str:
    (tmp_path / "pki").mkdir(exist_ok=True)
    for name in ("ca.crt", "me.crt", "me.key"):
        (tmp_path / "pki" / name).write_text(f"the {name}")
    (tmp_path / "token").write_text("the token\n")
    file = tmp_path / "config"
    file.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return str(file)


def test_files_become_their_content_and_others_are_left_out(tmp_path: Path) -> None:
    given = config(
        **{"client-certificate": "pki/me.crt", "client-key": str(tmp_path / "pki/me.key")}
    )
    text = read_kubeconfig(written(tmp_path, given))
    made = yaml.safe_load(text)
    (cluster,), (user,) = made["clusters"], made["users"]
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == b"the ca.crt"
    assert base64.b64decode(user["user"]["client-key-data"]) == b"the me.key"
    assert base64.b64decode(user["user"]["client-certificate-data"]) == b"the me.crt"
    assert "pki/" not in text
    assert "not-mine" not in text
    assert "other" not in text


def test_a_token_of_a_file_becomes_a_token(tmp_path: Path) -> None:
    made = yaml.safe_load(read_kubeconfig(written(tmp_path, config(tokenFile="token"))))
    assert made["users"][0]["user"] == {"token": "the token"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (config(exec={"command": "aws"}), "logs in by a program"),
        (config(**{"client-key": "pki/none.key"}), "cannot be read"),
        ({**config(), "current-context": "none"}, "contexts has no"),
        ({**config(), "users": None}, "users has no"),
        ({"kind": "Pod"}, "not a kubeconfig"),
        ("a: b: c", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_what_will_not_do_is_said(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_kubeconfig(written(tmp_path, value))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_kubeconfig(str(tmp_path / "none"))
