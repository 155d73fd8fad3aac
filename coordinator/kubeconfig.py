"""The operator's own kubeconfig, made into one text that a host can use: no paths in it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from agent.errors import UsageError

_MAX_BYTES = 1024 * 1024
_INLINE = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
}
"""Names of a path → of the same content, in base64 (client-go's clientcmd/api/v1 types)."""


def read_kubeconfig(path: str) -> str:
    """The current context of a kubeconfig file, complete in itself.

    Raises UsageError for a file that is none, and for one that logs in by a program of this
    machine: a host does not have that.
    """
    file = Path(path).expanduser()
    config = _load(file)
    name = config.get("current-context")
    context = _named(config, "contexts", name, file).get("context") or {}
    cluster = _named(config, "clusters", context.get("cluster"), file)
    user = _named(config, "users", context.get("user"), file)
    who = user.get("user") or {}
    if "exec" in who or "auth-provider" in who:
        raise UsageError(
            f"{file}: {context.get('user')} logs in by a program of this machine",
            "the API is asked from a control-plane host, which does not have it",
            "write a kubeconfig with a token: oc login …, or: kubectl create token …",
        )
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{**cluster, "cluster": _inlined(cluster.get("cluster") or {}, file)}],
        "contexts": [{"name": name, "context": context}],
        "users": [{**user, "user": _inlined(who, file)}],
        "current-context": name,
    }
    return yaml.safe_dump(made, sort_keys=False)


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{file}: larger than {_MAX_BYTES} bytes", "no kubeconfig is")
        config = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", next="--kubeconfig FILE") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(f"{file}: not YAML", "a kubeconfig is") from None
    if not isinstance(config, dict) or config.get("kind") != "Config":
        raise UsageError(f"{file}: not a kubeconfig", "its kind is not Config")
    return config


def _named(config: dict[str, Any], section: str, name: Any, file: Path) -> dict[str, Any]:
    rows = config.get(section)
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and name and row.get("name") == name:
            return row
    raise UsageError(f"{file}: {section} has no {name!r}", "its current context is not complete")


def _inlined(part: dict[str, Any], file: Path) -> dict[str, Any]:
    """The same with files' contents for their paths, which are relative to the kubeconfig."""
    made = {k: v for k, v in part.items() if k not in _INLINE and k != "tokenFile"}
    try:
        for name, inline in _INLINE.items():
            if part.get(name):
                content = (file.parent / str(part[name])).read_bytes()
                made[inline] = base64.b64encode(content).decode()
        if part.get("tokenFile"):
            made["token"] = (file.parent / str(part["tokenFile"])).read_text().strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: what it names cannot be read: {error}") from None
    return made
