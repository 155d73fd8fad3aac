"""etcd's YAML configuration file, read as etcd reads it: keys are flags, two sections hold TLS.

Source: server/embed/config.go (configYAML, securityConfig).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from agent.errors import Damaged
from agent.survey.podyaml import Document, compose, line

_SECTIONS = {"client-transport-security": "", "peer-transport-security": "peer-"}
_SECURITY = ("cert-file", "key-file", "client-cert-auth", "trusted-ca-file", "auto-tls",
             "client-cert-file", "client-key-file")  # fmt: skip
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Entry:
    """One setting: its value as a flag would have it, and the node that holds it."""

    value: str
    node: Node
    key: ScalarNode


def parse_config(text: str, path: str) -> tuple[Document, dict[str, Entry]]:
    """(document, flag → entry) of etcd's configuration file; keys without a value are left out.

    Raises Damaged where it is no readable YAML, has a key twice, or a value that etcd cannot take.
    """
    document = compose(text, path)
    root = document.mapping(document.root, "the document")
    found: dict[str, Entry] = {}
    for key, node in root.value if root is not None else ():
        section = _SECTIONS.get(key.value)
        if section is None:
            _add(document, found, key, node, key.value)
            continue
        inner = document.mapping(None if node.tag == _NULL else node, key.value)
        for name, value in inner.value if inner is not None else ():
            if name.value in _SECURITY:
                _add(document, found, name, value, f"{section}{name.value}")
    return document, found


def _add(
    document: Document, found: dict[str, Entry], key: ScalarNode, node: Node, flag: str
) -> None:
    value = _text(document, node, flag)
    if value is not None:
        found[flag] = Entry(value, node, key)


def _text(document: Document, node: Node, flag: str) -> Optional[str]:
    if isinstance(node, ScalarNode):
        return None if node.tag == _NULL or not node.value else str(node.value)
    if isinstance(node, SequenceNode) and all(isinstance(n, ScalarNode) for n in node.value):
        return ",".join(str(item.value) for item in node.value) or None
    kind = "mapping" if isinstance(node, MappingNode) else "nested list"
    raise Damaged(
        f"{document.path}: line {line(node)}: {flag} is a {kind}", "etcd reads a plain value here"
    )
