"""One flag changes, and not a byte besides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.actions.splice import add_flag, get_flag, remove_flag, set_flag
from agent.errors import Refused, RescueError, UsageError
from tests.unit.survey.manifests import pod, with_flags

NEW = "m0=https://10.0.0.1:2380,m1=https://10.0.0.2:2380"


def block(*items: str) -> str:
    lines = "\n".join(f"- {item}" for item in items)
    return pod(f"command:\n{lines}\nimage: x\nname: etcd\n")


PLACES = {
    "plain": (block("etcd", "--name=m0", "--data-dir=/d"), "- --name=m0\n", "- --name={}\n"),
    "comment": (block("etcd", "--name=m0 # mine", "--a=b"), "--name=m0 # mine", "--name={} # mine"),
    "single": (block("etcd", "'--name=m0'", "--a=b"), "'--name=m0'", "'--name={}'"),
    "double": (block('"etcd"', '"--name=m0"', '"--a=b"'), '"--name=m0"', '"--name={}"'),
    "two items": (block("etcd", "--name", "m0", "--a=b"), "- m0\n", "- {}\n"),
    "two quoted": (block("etcd", '"--name"', '"m0"', "--a=b"), '- "m0"\n', '- "{}"\n'),
    "one dash": (block("etcd", "-name=m0", "--a=b"), "- -name=m0\n", "- -name={}\n"),
    "flow": (pod("command: [etcd, --name=m0, --a=b]\nname: etcd\n"), "--name=m0,", "--name={},"),
    "flow lines": (
        pod('args: [\n  "--name=m0",\n  "--a=b"\n  ]\nname: etcd\n'), '"--name=m0"', '"--name={}"',
    ),
    "command and args": (
        pod("command: [etcd]\nargs:\n- --a=b\n- --name=m0\nname: etcd\n"),
        "- --name=m0\n", "- --name={}\n",
    ),
    "tabs": (block("etcd", "--name=m0\t# a\ttab\t", "--a=b"), "--name=m0\t", "--name={}\t"),
    "json": (
        '{"apiVersion": "v1",\t"kind": "Pod", "spec": {"containers": [{"name": "etcd",\n'
        '\t"command": ["etcd",\t"--name=m0", "--a=b"]}]}}', '"--name=m0"', '"--name={}"',
    ),
    "byte order mark": ("\ufeff" + block("etcd", "--name=m0"), "--name=m0\n", "--name={}\n"),
}  # fmt: skip
ENDINGS: dict[str, Callable[[str], str]] = {
    "as is": lambda text: text,
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "no final newline": lambda text: text.rstrip("\n"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", PLACES)
def test_set(name: str, ending: str) -> None:
    text, before, after = PLACES[name]
    assert text.count(before) == 1
    make = ENDINGS[ending]
    changed = set_flag(make(text), "name", "m9.example.com")
    assert changed == make(text.replace(before, after.format("m9.example.com")))
    assert set_flag(changed, "name", "m0") == make(text)
    assert get_flag(changed, "name") == "m9.example.com"
    assert set_flag(changed, "name", "m9.example.com") == changed


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", PLACES)
def test_add_and_remove(name: str, ending: str) -> None:
    text = ENDINGS[ending](PLACES[name][0])
    added = add_flag(text, "force-new-cluster", "true")
    assert get_flag(added, "force-new-cluster") == "true"
    assert get_flag(added, "name") == "m0"
    assert remove_flag(added, "force-new-cluster") == text
    gone = remove_flag(text, "name")
    assert get_flag(gone, "name") is None
    assert len(gone) < len(text)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (block("etcd", "--a=b"), block("etcd", "--a=b", "--x=1")),
        (block("etcd"), block("etcd", "--x=1")),
        (block("etcd", "--a=b # note"), block("etcd", "--a=b # note", "--x=1")),
        (block("etcd", "'--a=b'"), block("etcd", "'--a=b'", "'--x=1'")),
        (block("etcd", "--a", "b"), block("etcd", "--a", "b", "--x=1")),
        (pod("name: etcd\ncommand: [etcd]\n"), pod("name: etcd\ncommand: [etcd, --x=1]\n")),
        (pod("name: etcd\ncommand: [etcd]\nargs: ['--a=b',]\n"),
         pod("name: etcd\ncommand: [etcd]\nargs: ['--a=b', '--x=1',]\n")),
        (pod("name: etcd\ncommand: [etcd,\n    --a=b]\n"),
         pod("name: etcd\ncommand: [etcd,\n    --a=b,\n    --x=1]\n")),
        (pod("name: etcd\ncommand: [etcd, # the program\n    --a=b]\n"),
         pod("name: etcd\ncommand: [etcd, # the program\n    --a=b, --x=1]\n")),
    ],
)  # fmt: skip
def test_the_shape_of_an_addition(text: str, after: str) -> None:
    assert add_flag(text, "x", "1") == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (block("etcd", "--x=1", "--a=b"), block("etcd", "--a=b")),
        (block("etcd", "--x", "y1", "--a=b"), block("etcd", "--a=b")),
        (block("etcd", "--a=b", "--x=1 # for now"), block("etcd", "--a=b")),
        (pod("name: etcd\ncommand: [etcd]\nargs: [--x=1, --a=b]\n"),
         pod("name: etcd\ncommand: [etcd]\nargs: [--a=b]\n")),
        (pod("name: etcd\ncommand: [etcd]\nargs: [--x, '1', --a=b]\n"),
         pod("name: etcd\ncommand: [etcd]\nargs: [--a=b]\n")),
        (pod("name: etcd\ncommand: [etcd]\nargs: [--x=1]\n"),
         pod("name: etcd\ncommand: [etcd]\nargs: []\n")),
        (block("etcd", "--a=b\n    # a comment\n    # another", "--x=1"),
         block("etcd", "--a=b\n    # a comment\n    # another")),
    ],
)  # fmt: skip
def test_the_shape_of_a_removal(text: str, after: str) -> None:
    assert remove_flag(text, "x") == after


@pytest.mark.parametrize(
    ("text", "value", "word"),
    [
        (block("etcd", "--x=1"), "a: b", '"--x=a: b"'),
        (block("etcd", "--x=1"), "a #b", '"--x=a #b"'),
        (block("etcd", "--x", "a"), "true", '- "true"'),
        (block("etcd", "--x", "a"), "1e3", '- "1e3"'),
        (block("etcd", "--x", "a"), "y", '- "y"'),
        (block("etcd", "--x", "a"), "", '- ""'),
        (block("etcd", "--x", "a"), "{a}", '"{a}"'),
        (pod("name: etcd\ncommand: [etcd, --x=1]\n"), "a,b", '"--x=a,b"'),
        (block("etcd", "'--x=1'"), "it's", "'--x=it''s'"),
        (block("etcd", '"--x=1"'), 'a"\\b', '"--x=a\\"\\\\b"'),
    ],
)
def test_words_that_need_quotes(text: str, value: str, word: str) -> None:
    changed = set_flag(text, "x", value)
    assert word in changed
    assert get_flag(changed, "x") == value


def test_a_bare_boolean_gets_its_value() -> None:
    text = block("etcd", "--client-cert-auth", "--a=b")
    assert get_flag(text, "client-cert-auth") == "true"
    changed = set_flag(text, "client-cert-auth", "false")
    assert changed == text.replace("--client-cert-auth", "--client-cert-auth=false")


SH = "name: etcd\nimage: x\ncommand: [sh, -c, 'exec etcd --name=m0']\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (pod(SH), "shell script"),
        (pod("name: db\ncommand: [psql]\n"), "no container of this pod runs etcd"),
        (block("etcd", "--name=m0", "--name=m1"), "given 2 times (lines 10, 11)"),
        (block("etcd", "&n --name=m0"), "anchor"),
        (pod("command: &c\n- etcd\n- --name=m0\nname: etcd\n"), "anchor"),
        (block("etcd", ">-\n      --name=m0"), "over several lines"),
        (block("etcd", "|-\n      --name=m0"), "over several lines"),
        (block("etcd", '"--name=\\\n      m0"'), "over several lines"),
        (block("etcd", '"--name=\\x6d0"'), "over several lines"),
        (block("etcd", "--name=m0", "stop", "--a=b"), "stops reading its flags at 'stop'"),
        (block("etcd", "--name=m0", "--config-file=/c"), "--config-file"),
        (pod("name: etcd\ncommand: [etcd, --name=m0]\nenv: [{name: ETCD_CONFIG_FILE, value: /c}]"),
         "--config-file"),
        (pod("name: etcd\nimage: x\n"), "no list of arguments"),
    ],
)  # fmt: skip
def test_refused(text: str, said: str) -> None:
    edits = [
        partial(set_flag, text, "name", "m9", "etcd.yaml"),
        partial(remove_flag, text, "name", "etcd.yaml"),
    ]
    for edit in edits:
        with pytest.raises(Refused) as error:
            edit()
        assert "etcd.yaml" in error.value.seen
        assert said in error.value.seen or said == "no list of arguments"
        assert error.value.why
    if said in ("shell script", "no list of arguments", "--config-file", "anchor"):
        with pytest.raises(Refused) as error:
            add_flag(text.replace("--name=m0", "--a=b"), "name", "m9")
        assert said in error.value.seen


def test_an_alias_that_shares_the_argument() -> None:
    text = block("etcd", "--name=m0").replace("metadata:", "x: &a [etcd, --name=m0]\nmetadata:")
    shared = text.replace("    - etcd\n    - --name=m0\n", "").replace("command:", "command: *a")
    with pytest.raises(Refused, match="anchor"):
        set_flag(shared, "name", "m9")
    assert set_flag(text, "name", "m9").count("m9") == 1


def test_an_anchor_elsewhere_does_no_harm() -> None:
    text = block("etcd", "--name=m0").replace("metadata:", "x: &a [b]\ny: *a\nmetadata:")
    assert set_flag(text, "name", "m9") == text.replace("m0", "m9")


def test_what_is_not_there_or_there_already() -> None:
    with pytest.raises(Refused, match="is not among"):
        set_flag(with_flags(), "x", "1")
    with pytest.raises(Refused, match="is not among"):
        remove_flag(with_flags(), "x")
    with pytest.raises(Refused, match="already"):
        add_flag(with_flags(), "name", "1")
    assert get_flag(with_flags(), "x") is None


def test_a_flag_that_the_environment_sets_too() -> None:
    text = pod(
        "name: etcd\ncommand: [etcd, --force-new-cluster]\n"
        "env: [{name: ETCD_FORCE_NEW_CLUSTER, value: 'true'}]\n"
    )
    with pytest.raises(Refused, match="environment"):
        remove_flag(text, "force-new-cluster")


@pytest.mark.parametrize(("flag", "value"), [("a b", "1"), ("--x", "1"), ("", "1"), ("x", "1\n2")])
def test_impossible_flags(flag: str, value: str) -> None:
    with pytest.raises(UsageError):
        add_flag(with_flags(), flag, value)


# ---- properties ----------------------------------------------------------------------------------

NAMES = ("name", "data-dir", "initial-cluster", "initial-cluster-state", "quota-backend-bytes")
PLAIN_VALUES = st.from_regex(r"[a-zA-Z0-9/:._=-]{1,20}", fullmatch=True).filter(
    lambda value: not value.startswith("-") and not value.endswith(":")
)
ANY_VALUES = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20).filter(
    str.isprintable
)


@st.composite
def manifests(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """A manifest in some style, and its flags."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    flags = {name: draw(PLAIN_VALUES) for name in names}
    quote = draw(st.sampled_from(["'", '"', ""]))
    words = ["etcd"]
    for name, value in flags.items():
        split = draw(st.booleans()) and (bool(quote) or (value[0].isalpha() and len(value) > 5))
        words += [f"--{name}", value] if split else [f"--{name}={value}"]
    words = [f"{quote}{word}{quote}" for word in words]
    if draw(st.booleans()):
        comment = draw(st.sampled_from(["", " # why", "   # ünd:"]))
        indent = draw(st.sampled_from(["- ", "-   ", "  - "]))
        body = "command:\n" + "".join(f"{indent}{word}{comment}\n" for word in words)
    else:
        gap = draw(st.sampled_from([", ", ",\n    ", " , "]))
        body = f"command: [{gap.join(words)}]\n"
    text = pod(f"{body}image: x\nname: etcd\n")
    return draw(st.sampled_from(list(ENDINGS.values())))(text), flags


def tree(text: str) -> Any:
    return yaml.safe_load(text)


def argv(text: str) -> list[str]:
    found: list[str] = tree(text)["spec"]["containers"][0]["command"]
    return found


def readable(text: str, flags: dict[str, str]) -> bool:
    """Whether YAML kept every word a string (a plain 1e3 or 12:30 is a number)."""
    try:
        return all(isinstance(word, str) for word in argv(text))
    except yaml.YAMLError:
        return False


@settings(max_examples=60, deadline=None)
@given(manifests(), st.sampled_from(NAMES), PLAIN_VALUES)
def test_set_and_set_back(made: tuple[str, dict[str, str]], flag: str, value: str) -> None:
    text, flags = made
    if flag not in flags or not readable(text, flags):
        return
    changed = set_flag(text, flag, value)
    assert get_flag(changed, flag) == value
    before, after = argv(text), argv(changed)
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after)) == (value != flags[flag])
    for name in flags.keys() - {flag}:
        assert get_flag(changed, name) == flags[name]
    back = set_flag(changed, flag, flags[flag])
    assert tree(back) == tree(text)
    if changed.count('"') == text.count('"'):
        assert back == text


@settings(max_examples=60, deadline=None)
@given(manifests(), ANY_VALUES)
def test_add_and_take_away(made: tuple[str, dict[str, str]], value: str) -> None:
    text, flags = made
    if not readable(text, flags):
        return
    added = add_flag(text, "initial-cluster-token", value)
    assert argv(added) == [*argv(text), f"--initial-cluster-token={value}"]
    assert remove_flag(added, "initial-cluster-token") == text


@settings(max_examples=60, deadline=None)
@given(manifests(), st.sampled_from(NAMES))
def test_take_away(made: tuple[str, dict[str, str]], flag: str) -> None:
    text, flags = made
    if flag not in flags or not readable(text, flags):
        return
    gone = remove_flag(text, flag)
    left = [w for w in argv(text) if not w.startswith((f"--{flag}=", f"--{flag}"))]
    kept = [w for w in argv(gone) if not w.startswith(f"--{flag}")]
    assert get_flag(gone, flag) is None
    assert len(left) - len(kept) in (0, 1)
    rest = {**tree(text)["spec"]["containers"][0], "command": None}
    assert {**tree(gone)["spec"]["containers"][0], "command": None} == rest


@settings(deadline=None)
@given(st.text(alphabet=" \n\r\t-:{}[]&*!|>'\"%#,=aetcdPod", max_size=80))
def test_any_text_is_edited_or_refused(text: str) -> None:
    for whole in (text, block("etcd", text)):
        try:
            added = add_flag(whole, "x", "1")
        except RescueError:
            continue
        assert remove_flag(added, "x") == whole
