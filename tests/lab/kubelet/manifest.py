"""Static pods out of the manifest directory: which files count, and who each pod is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class StaticPod:
    """A pod as the kubelet knows it: the same file with the same content is the same pod."""

    uid: str
    name: str
    namespace: str
    source: str
    spec: dict[str, Any] = field(hash=False)
    labels: dict[str, str] = field(hash=False)
    annotations: dict[str, str] = field(hash=False)

    @property
    def full_name(self) -> str:
        """What only one pod at a time may have, whatever its UID."""
        return f"{self.name}_{self.namespace}"

    @property
    def grace(self) -> int:
        """Seconds between SIGTERM and SIGKILL."""
        return int(self.spec.get("terminationGracePeriodSeconds", 30))


class InvalidManifest(ValueError):
    """A file of the manifest directory is no pod."""


def manifest_files(directory: Path) -> list[Path]:
    """The files that the kubelet reads: all but dot-files, and nothing in subdirectories."""
    try:
        found = sorted(directory.iterdir())
    except OSError:
        return []
    return [path for path in found if not path.name.startswith(".") and path.is_file()]


def pod_uid(document: dict[str, Any], node: str, source: Path) -> str:
    """The UID of a static pod: a hash of its content, its host and its file."""
    told = document.get("metadata", {}).get("uid")
    if told:
        return str(told)
    state = hashlib.md5(json.dumps(document, sort_keys=True, default=str).encode())
    state.update(f"host:{node}file:{source}".encode())
    return state.hexdigest()


def parse_pod(text: str, node: str, source: Path) -> StaticPod:
    """Read one manifest; raises InvalidManifest."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidManifest(f"couldn't parse as pod: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "Pod":
        raise InvalidManifest("couldn't parse as pod(invalid pod: not a Pod)")
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    if not metadata.get("name") or not spec.get("containers"):
        raise InvalidManifest("invalid pod: a name and containers are required")
    return StaticPod(
        uid=pod_uid(document, node, source),
        name=f"{metadata['name']}-{node}",
        namespace=str(metadata.get("namespace") or "default"),
        source=str(source),
        spec=spec,
        labels={str(k): str(v) for k, v in (metadata.get("labels") or {}).items()},
        annotations={str(k): str(v) for k, v in (metadata.get("annotations") or {}).items()},
    )


def read_directory(
    directory: Path, node: str, on_error: Callable[[Path, Exception], None]
) -> list[StaticPod]:
    """Every valid pod of the directory; a bad file is reported and skipped."""
    pods = []
    for path in manifest_files(directory):
        try:
            pods.append(parse_pod(path.read_text(), node, path))
        except (OSError, UnicodeDecodeError, InvalidManifest) as error:
            on_error(path, error)
    return pods


def directory_state(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What changes when a file that counts is written, replaced, added or removed."""
    state = []
    for path in manifest_files(directory):
        try:
            info = path.stat()
        except OSError:
            continue
        state.append((path.name, info.st_ino, info.st_mtime_ns, info.st_size))
    return tuple(state)
