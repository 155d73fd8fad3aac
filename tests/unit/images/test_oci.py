"""The image's archive: whole by every reader's rules, equal if built twice, without a shell."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agent import __version__
from coordinator.agent_file import AgentFile
from coordinator.transports.pod_tools import DEFAULT_IMAGE
from images import oci, oci_root
from images.oci import Entry

CONTAINERFILE = Path(__file__).parents[3] / "images/Containerfile"


@pytest.fixture
def agent(tmp_path: Path) -> AgentFile:
    path = tmp_path / "rescue-agent.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("site-packages/agent/entry/cli.py", "def main(): ...\n")
        archive.writestr("_bootstrap/__init__.py", "")
    data = path.read_bytes()
    return AgentFile(path, hashlib.sha256(data).hexdigest(), len(data), "x86_64")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    for name in (
        "bin/python3", "bin/python3.11", "bin/busybox", "lib/ld-linux-x86-64.so.2",
        "lib/python311.zip", "lib/python3.11/os.py", "lib/python3.11/lib-dynload/_ssl.so",
        "PACKAGES", "COPYRIGHT", "SHA256SUMS",
    ):  # fmt: skip
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    return top


def build(tmp_path: Path, tree: Path, agent: AgentFile, name: str = "image.tar") -> Path:
    path, config = tmp_path / name, oci_root.image_config(agent)
    oci.write_image(path, DEFAULT_IMAGE, "x86_64", oci_root.entries(tree, agent), config)
    return path


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        found = [(member.name, tar.extractfile(member)) for member in tar if member.isfile()]
        return {name: file.read() for name, file in found if file is not None}


def layer_of(path: Path) -> tarfile.TarFile:
    files = members(path)
    (saved,) = json.loads(files["manifest.json"])
    return tarfile.open(fileobj=io.BytesIO(files[saved["Layers"][0]]))


def blob(files: dict[str, bytes], said: dict[str, Any]) -> bytes:
    data = files[f"blobs/{said['digest'].replace(':', '/')}"]
    assert hashlib.sha256(data).hexdigest() == said["digest"].partition(":")[2]
    assert len(data) == said["size"]
    return data


def test_every_descriptor_leads_to_what_it_describes(
    tmp_path: Path, tree: Path, agent: AgentFile
) -> None:
    files = members(build(tmp_path, tree, agent))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(files, entry))
    config = json.loads(blob(files, manifest["config"]))
    layers = [blob(files, layer) for layer in manifest["layers"]]
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert config["rootfs"] == {"type": "layers", "diff_ids": digests}
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    # The way of `docker save` leads to the same.
    (saved,) = json.loads(files["manifest.json"])
    assert saved["RepoTags"] == [DEFAULT_IMAGE]
    assert json.loads(files[saved["Config"]]) == config
    assert [files[name] for name in saved["Layers"]] == layers
    assert entry["annotations"]["io.containerd.image.name"] == DEFAULT_IMAGE


def test_equal_parts_give_an_equal_file(tmp_path: Path, tree: Path, agent: AgentFile) -> None:
    first = build(tmp_path, tree, agent, "1.tar").read_bytes()
    for path in tree.rglob("*"):
        path.touch()
    assert build(tmp_path, tree, agent, "2.tar").read_bytes() == first


def test_it_says_by_convention_what_it_is(tmp_path: Path, tree: Path, agent: AgentFile) -> None:
    said = oci_root.image_config(agent)["Labels"]
    assert said["org.opencontainers.image.version"] == __version__
    assert said["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert said["etcd-rescue.agent.sha256"] == agent.sha256
    files = members(build(tmp_path, tree, agent))
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert json.loads(blob(files, entry))["annotations"] == said


def test_there_is_no_shell_and_nothing_that_others_may_change(
    tmp_path: Path, tree: Path, agent: AgentFile
) -> None:
    with layer_of(build(tmp_path, tree, agent)) as layer:
        found = {member.name: member for member in layer}
    assert not [name for name in found if re.search(r"/(ba|da|a)?sh$|busybox", name)]
    for member in found.values():
        assert (member.uid, member.gid) == (0, 0)
        assert not member.mode & 0o6000
        assert member.issym() or member.name == "tmp" or not member.mode & 0o022
    assert found["lib64/ld-linux-x86-64.so.2"].linkname == "../usr/lib/ld-linux-x86-64.so.2"
    assert found["usr/bin/rescue-agent"].mode == found["usr/bin/python3.11"].mode == 0o755
    assert found["var/lib/etcd-rescue"].mode == 0o700
    assert found[f"var/lib/etcd-rescue/agent/{agent.sha256}.pyz"].mode == 0o600
    assert "host" not in found  # a pod without the host must be told from one with it


def test_a_directory_comes_ahead_of_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ahead of its directory"):
        oci.write_image(tmp_path / "x", "x:1", "x86_64", [Entry("a/b", data=b"")], {})


def test_an_engine_builds_the_same(agent: AgentFile) -> None:
    text = CONTAINERFILE.read_text().replace("\\\n", " ")
    text = text.replace("$VERSION", __version__).replace("$AGENT_SHA256", agent.sha256)
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]
    said = {word: rest for word, rest in lines if word != "ARG"}
    config = oci_root.image_config(agent)
    assert [word for word, _rest in lines][:1] == ["FROM"]
    assert said["FROM"] == "scratch"
    assert said["COPY"] == ". /"
    assert said["ENV"].split() == config["Env"]
    assert dict(re.findall(r'(\S+)="([^"]*)"', said["LABEL"])) == config["Labels"]
    assert json.loads(said["ENTRYPOINT"]) == config["Entrypoint"]
    assert json.loads(said["CMD"]) == config["Cmd"]
    assert (said["USER"], said["WORKDIR"]) == (config["User"], config["WorkingDir"])
    assert f"ARG VERSION={__version__}" in text
