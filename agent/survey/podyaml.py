"""YAML as a bounded tree of nodes that know their place: no tags, no bombs, no key twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Optional

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from agent.errors import Damaged

MAX_TEXT = 1024 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 60
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
# What is a number to the kubelet's parser (gopkg.in/yaml.v2, resolve.go) and text to PyYAML's.
_GO_NUMBER = re.compile(
    r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)[eE][-+]?\d+|[-+]?0[xob][\da-fA-F_]+", re.ASCII
)
_STRINGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp")


@dataclass(frozen=True)
class Document:
    """One composed document. anchored: nodes that carry an anchor: aliases may share them."""

    text: str
    path: str
    root: Node
    anchored: tuple[Node, ...]

    def error(self, node: Node, problem: str) -> Damaged:
        """Damaged that names the file and the node's line."""
        return Damaged(f"{self.path}: line {line(node)}: {problem}")

    def mapping(self, node: Optional[Node], what: str) -> Optional[MappingNode]:
        """The node as a mapping, None where it is absent or null."""
        if node is None or isinstance(node, MappingNode):
            return node
        raise self.error(node, f"{what} is not a mapping")

    def items(self, node: Optional[Node], what: str) -> list[Node]:
        """The items of a list, none where it is absent or null."""
        if node is None:
            return []
        if isinstance(node, SequenceNode):
            return list(node.value)
        raise self.error(node, f"{what} is not a list")

    def string(self, node: Optional[Node], what: str) -> str:
        """A string, empty where it is absent or null.

        A number or a truth value is an error, as it is for the kubelet's decoder.
        """
        if node is None:
            return ""
        if isinstance(node, ScalarNode) and node.tag in _STRINGS and not _is_go_number(node):
            return str(node.value)
        raise self.error(node, f"{what} is not a string; put it in quotes")


def _is_go_number(node: ScalarNode) -> bool:
    return node.style is None and _GO_NUMBER.fullmatch(node.value) is not None


def compose(text: str, path: str) -> Document:
    """The single document of `text`. Raises Damaged with line and column where it is not that.

    Refused as well: explicit tags, keys given twice, more than 1 MiB, aliases that unfold to more
    than 20,000 nodes or contain themselves.
    """
    if len(text) > MAX_TEXT:
        raise Damaged(f"{path}: {len(text)} characters; no manifest is larger than {MAX_TEXT}")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise Damaged(f"{path}: empty")
        _check(root, {})
    except yaml.YAMLError as error:
        raise Damaged(f"{path}: {_place(error)}", "not a readable YAML document") from None
    return Document(text, path, root, tuple(loader.anchored))


def get(node: Optional[Node], key: str) -> Optional[Node]:
    """The value of a key in a mapping, merge keys followed; None where it is absent or null."""
    if not isinstance(node, MappingNode):
        return None
    merged: list[Node] = []
    for name, value in node.value:
        if name.tag == _MERGE:
            merged += value.value if isinstance(value, SequenceNode) else [value]
        elif isinstance(name, ScalarNode) and name.value == key:
            return None if value.tag == _NULL else value
    found = (get(source, key) for source in merged)
    return next((value for value in found if value is not None), None)


def data(node: Node, memo: dict[int, Any]) -> Any:
    """Plain data of a tree: (tag, text), list or list of pairs; `memo` gives each node's own."""
    if id(node) not in memo:
        if isinstance(node, ScalarNode):
            memo[id(node)] = (node.tag, node.value)
        elif isinstance(node, SequenceNode):
            memo[id(node)] = [data(item, memo) for item in node.value]
        else:
            memo[id(node)] = [(data(k, memo), data(v, memo)) for k, v in node.value]
    return memo[id(node)]


def line(node: Node) -> int:
    """The line a node begins on, from 1."""
    return int(node.start_mark.line) + 1


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below a node."""
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value


class _Loader(yaml.SafeLoader):
    """PyYAML's own composer with bounds; only nodes are made, no objects."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.anchored: list[Node] = []
        self._open: list[str] = []
        self._depth = 0
        self._count = 0

    def scan_to_next_token(self) -> None:
        """Skip tabs where they separate, as the kubelet's parser does and PyYAML's does not."""
        super().scan_to_next_token()
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            self.forward()
            super().scan_to_next_token()

    def compose_node(self, parent: Any, index: Any) -> Optional[Node]:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self._count += 1
        if self._count > MAX_NODES or self._depth > MAX_DEPTH:
            _fail("too many or too deeply nested values", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open:
                _fail(f"anchor {event.anchor} contains itself", event.start_mark)
            return super().compose_node(parent, index)
        if event.tag is not None:
            _fail(f"the tag {event.tag} is not allowed here", event.start_mark)
        return self._compose_own(event.anchor, parent, index)

    def _compose_own(self, anchor: Optional[str], parent: Any, index: Any) -> Optional[Node]:
        self._depth += 1
        if anchor:
            self._open.append(anchor)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor and node is not None:
            self._open.pop()
            self.anchored.append(node)
        return node


def _check(node: Node, sizes: dict[int, int]) -> int:
    """Count nodes as if aliases were written out, bounded; and refuse keys given twice."""
    known = sizes.get(id(node))
    if known is not None:
        return known
    if isinstance(node, MappingNode):
        _check_keys(node)
    size = 1
    for child in children(node):
        size += _check(child, sizes)
        if size > MAX_NODES:
            _fail("aliases that unfold to too many values", node.start_mark)
    sizes[id(node)] = size
    return size


def _check_keys(node: MappingNode) -> None:
    seen: dict[str, Node] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            _fail("a key that is not a plain word", key.start_mark)
        if key.value in seen:
            where = f"also on line {line(seen[key.value])}"
            _fail(f"the key {key.value} is given twice, {where}", key.start_mark)
        seen[key.value] = key


def _fail(problem: str, mark: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    context = getattr(error, "context", None)
    said = f"{context}, {problem}" if context else problem
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}" if mark else said
