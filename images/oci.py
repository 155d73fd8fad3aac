"""Writes a container image as one file, with no container engine and no registry.

The file is an OCI image layout in a tar (OCI image-spec, image-layout.md) that also has the
manifest.json of `docker save`: `ctr images import`, `podman load`, `skopeo copy oci-archive:` and
`docker load` all take it. One layer, not compressed: equal content gives an equal file.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Machine, as `uname -m` says it → as images name it (GOARCH)."""

_TIME = 315532800  # 1980-01-01, as in the agent's own zip
CREATED = "1980-01-01T00:00:00Z"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Entry:
    """One name of an image's file system: a file (data), a link (target), or a directory."""

    name: str
    mode: int = 0o755
    data: bytes | None = None
    target: str = ""


def write_image(
    path: Path, reference: str, machine: str, entries: Iterable[Entry], config: Mapping[str, Any]
) -> str:
    """Write the archive; gives the image's ID (sha256 of its configuration).

    reference: NAME:TAG. config: the image-spec's `config` object. Parents of entries must be among
    them, ahead of them.
    """
    layer = _layer(entries)
    configuration = _json(_configuration(machine, layer, config))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _described(_CONFIG, configuration),
            "layers": [_described(_LAYER, layer)],
            "annotations": dict(config.get("Labels", {})),
        }
    )
    saved = {
        "Config": _blob(configuration), "RepoTags": [reference], "Layers": [_blob(layer)]
    }  # fmt: skip
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(_index(reference, machine, manifest)),
        "manifest.json": _json([saved]),
        **{_blob(data): data for data in (configuration, manifest, layer)},
    }
    folders = [Entry("blobs"), Entry("blobs/sha256")]
    path.write_bytes(_tar([*folders, *(Entry(n, 0o644, d) for n, d in files.items())]))
    return _digest(configuration)


def _configuration(machine: str, layer: bytes, config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "created": CREATED,
        "architecture": ARCHITECTURES[machine],
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created": CREATED, "created_by": "etcd-rescue images/oci.py"}],
    }


def _index(reference: str, machine: str, manifest: bytes) -> dict[str, Any]:
    platform = {"architecture": ARCHITECTURES[machine], "os": "linux"}
    names = {
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
        "io.containerd.image.name": reference,
    }
    entry = {**_described(_MANIFEST, manifest), "platform": platform, "annotations": names}
    return {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}


def _layer(entries: Iterable[Entry]) -> bytes:
    found = list(entries)
    known = {""}
    for entry in found:
        if entry.name.rpartition("/")[0] not in known:
            raise ValueError(f"{entry.name} comes ahead of its directory")
        known.add(entry.name)
    return _tar(found)


def _tar(entries: Iterable[Entry]) -> bytes:
    """A tar with root's owner and one time everywhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.mode, info.mtime = entry.mode, _TIME
            info.uname = info.gname = "root"
            if entry.data is not None:
                info.size = len(entry.data)
                tar.addfile(info, io.BytesIO(entry.data))
                continue
            info.type = tarfile.SYMTYPE if entry.target else tarfile.DIRTYPE
            info.linkname = entry.target
            tar.addfile(info)
    return buffer.getvalue()


def _described(media_type: str, data: bytes) -> dict[str, Any]:
    """A content descriptor (image-spec, descriptor.md)."""
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
