"""Nothing that anybody else named is ever read by a shell: where command lines are made."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from agent.errors import CommandFailed, Damaged, UsageError
from agent.host import Host
from agent.survey.manifest import etcd_config
from coordinator.connection import Access, resolve
from coordinator.delivery import host_command
from coordinator.hosts import HostSpec
from coordinator.sshconfig import _substitute, _tokens
from tests.unit.survey.manifests import with_flags

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for room in ("agent", "coordinator") for path in (ROOT / room).rglob("*.py")
)  # fmt: skip
SHELLS = {"sh", "bash", "/bin/sh", "/bin/bash", "/usr/bin/env"}
KNOWN = {
    "coordinator/connection.py": "the operator's own ProxyCommand, as ssh itself runs it",
    "coordinator/delivery.py": "host_command: a constant, the host's shell runs it",
    "coordinator/transports/local.py": "host_command here: no word of it comes from outside",
}
EVIL = ("$(touch pwned)", "`touch pwned`", "; touch pwned", "x\ntouch pwned", "| touch pwned",
        "' touch pwned '", '" touch pwned "', "-oProxyCommand=touch pwned", "--", "*", "~", "&", "ä\x1b[m")  # fmt: skip  # noqa: E501


def uses_of_shells(path: Path) -> list[str]:
    """Every place that could hand text to a shell, by line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            found.append(f"{node.value.lineno}: shell=")
        if isinstance(node, ast.Attribute) and node.attr in (
            "system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell", "spawnl",
        ):  # fmt: skip
            found.append(f"{node.lineno}: {node.attr}")
        if isinstance(node, (ast.List, ast.Tuple)) and node.elts:
            words = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            if words and words[0] in SHELLS and "-c" in words:
                found.append(f"{node.lineno}: {words}")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("eval", "exec"):
            found.append(f"{node.lineno}: {node.func.id}")  # type: ignore[attr-defined]
    return found


@pytest.mark.reliability(
    "Hostile input",
    "no name, path or value is evaluated by a shell: processes are argument lists, and the three"
    " places that need a shell hold nothing from outside",
)
def test_no_shell_anywhere_but_where_it_is_known() -> None:
    found = {str(p.relative_to(ROOT)): uses_of_shells(p) for p in FILES}
    assert set(KNOWN) == {path for path, uses in found.items() if uses}


def test_the_yaml_loaders_make_no_objects() -> None:
    """safe_load, SafeLoader's heirs; nothing else of PyYAML makes objects of tags."""
    for path in FILES:
        text = path.read_text()
        assert not re.search(r"yaml\.(unsafe_|full_)?load(_all)?\((?!.*(_Strict|Safe))", text), path
        assert not re.search(r"\bpickle\b|\bmarshal\b|\bshelve\b", text), path


@pytest.mark.parametrize("evil", EVIL)
def test_an_argument_stays_one_argument(tmp_path: Path, evil: str) -> None:
    done = Host("/").run(["printf", "%s", evil])
    assert done.stdout == evil
    with pytest.raises(CommandFailed):
        Host("/").run([evil])
    assert not Path("pwned").exists()


@pytest.mark.parametrize("is_root", [True, False])
@pytest.mark.parametrize("password", [True, False])
def test_the_remote_command_is_constant(is_root: bool, password: bool) -> None:
    """A login shell reads it: so nothing in it depends on a host, a user, a plan or a file."""
    command = host_command(is_root, password)
    assert command == host_command(is_root, password)
    words = shlex.split(command)
    assert words[:2] == ["sh", "-c"]
    assert len(words) == 3
    assert command.isascii()
    assert command.isprintable()
    subprocess.run(["sh", "-n", "-c", words[2]], check=True)


@pytest.mark.parametrize("evil", EVIL)
def test_ssh_is_never_asked_about_a_name_that_was_not_checked(evil: str) -> None:
    for spec in (HostSpec(evil), HostSpec("m0", address=evil), HostSpec("m0", user=evil)):
        with pytest.raises(UsageError):
            resolve(spec, Access(config="/dev/null"))
    assert not Path("pwned").exists()


def test_a_proxy_command_gets_only_names_that_were_checked() -> None:
    tokens = _tokens("m0", "fe80::1%eth0", 22, "core")
    assert _substitute("nc %h %p %% %z %r", tokens) == "nc fe80::1%eth0 22 % %z core"


@pytest.mark.parametrize("image", ["--help", "-x", "a b", "a\nb", "a\x1b[m"])
def test_an_image_is_no_option(image: str) -> None:
    quoted = '"' + "".join(f"\\U{ord(c):08x}" for c in image) + '"'
    text = with_flags().replace("image: registry.k8s.io/etcd:3.5.16-0", f"image: {quoted}")
    assert quoted in text
    with pytest.raises(Damaged, match="no image's name"):
        etcd_config(text, "/etc/kubernetes/manifests/etcd.yaml")
