"""A setting of an etcd under systemd changes in the file that counts, and not a byte besides."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.actions.kind import Flags, Texts
from agent.actions.splice_unit import change_flags
from agent.errors import Refused, UsageError
from agent.survey.units import read_view
from tests.unit.unit_host import ENV, PLAIN, REDHAT, UNIT, make_host

NEW = "m0=https://10.0.0.10:2380,m1=https://[fd00::1]:2380"
OLD = "m0=https://10.0.0.10:2380"
VENDOR = "/usr/lib/systemd/system/etcd.service"
BOTH: Flags = {"initial-cluster": NEW, "initial-cluster-state": "existing"}


def change(root: Path, files: dict[str, str | bytes], flags: Flags) -> dict[str, bytes]:
    """The files that a change touches, with what they then hold."""
    host = make_host(root, files)
    texts = change_flags(lambda more: read_view(host, "etcd.service", more), flags)
    return {path: text.encode("utf-8", "surrogateescape") for path, text in texts.items()}


FLAGS = "[Service]\nExecStart=/usr/bin/etcd \\\n  --name m0 \\\n{}  --data-dir=/d\nRestart=always\n"
YAML = "# c\nname: m0   # mine\ninitial-cluster: {}\ndata-dir: /d\n"
CASES: dict[str, tuple[dict[str, str], str]] = {
    "kubespray": ({UNIT: PLAIN, "/etc/etcd.env": "#c\nETCD_INITIAL_CLUSTER={}\nETCD_NAME=m0\n"},
                  "/etc/etcd.env"),
    "no final newline": ({UNIT: PLAIN, "/etc/etcd.env": "ETCD_INITIAL_CLUSTER={}"},
                         "/etc/etcd.env"),
    "crlf": ({UNIT: PLAIN, "/etc/etcd.env": "A=1\r\n\tETCD_INITIAL_CLUSTER={}\r\nB=2\r\n"},
             "/etc/etcd.env"),
    "double quotes": ({UNIT: PLAIN, "/etc/etcd.env": 'ETCD_INITIAL_CLUSTER="{}"  \n'},
                      "/etc/etcd.env"),
    "single quotes": ({UNIT: PLAIN, "/etc/etcd.env": "ETCD_INITIAL_CLUSTER='{}'\n;c\n"},
                      "/etc/etcd.env"),
    "the last one counts": (
        {UNIT: PLAIN, "/etc/etcd.env": "ETCD_INITIAL_CLUSTER=x\nETCD_INITIAL_CLUSTER={}\n"},
        "/etc/etcd.env",
    ),
    "no utf-8 in a comment": ({UNIT: PLAIN, "/etc/etcd.env": "#\udcff\nETCD_INITIAL_CLUSTER={}\n"},
                              "/etc/etcd.env"),
    "a drop-in": (
        {VENDOR: PLAIN, "/etc/systemd/system/etcd.service.d/a.conf":
         "[Service]\n# c\nEnvironment=A=b 'ETCD_INITIAL_CLUSTER={}' C=d\n"},
        "/etc/systemd/system/etcd.service.d/a.conf",
    ),
    "a flag": ({UNIT: FLAGS.format("  --initial-cluster={} \\\n")}, UNIT),
    "two words": ({UNIT: FLAGS.format("  --initial-cluster \\\n    {} \\\n")}, UNIT),
    "quoted words": ({UNIT: FLAGS.format('  --initial-cluster "{}" \\\n')}, UNIT),
    "a variable behind a flag": (
        {UNIT: FLAGS.format("  --initial-cluster=${{CLUSTER}} \\\n")
         .replace("[Service]", "[Service]\nEnvironmentFile=/e"), "/e": "CLUSTER={}\n"}, "/e",
    ),
    "red hat": ({VENDOR: REDHAT, "/etc/etcd/etcd.conf":
                 'ETCD_NAME=m0\nETCD_INITIAL_CLUSTER="{}"\n#ETCD_INITIAL_CLUSTER=x\n'},
                "/etc/etcd/etcd.conf"),
    "yaml": ({UNIT: "[Service]\nExecStart=/usr/bin/etcd --config-file /c\n", "/c": YAML}, "/c"),
    "yaml quoted": ({UNIT: "[Service]\nExecStart=/usr/bin/etcd --config-file=/c\n",
                     "/c": YAML.replace("{}", "'{}' # c").replace("\n", "\r\n")}, "/c"),
}  # fmt: skip


def filled(files: dict[str, str], value: str) -> dict[str, str | bytes]:
    done: dict[str, str | bytes] = {}
    for path, text in files.items():
        text = text.replace("{{", "{").replace("}}", "}") if "CLUSTER}}" in text else text
        done[path] = text.replace("{}", value).encode("utf-8", "surrogateescape")
    return done


@pytest.mark.parametrize("name", CASES)
def test_only_the_value_changes(tmp_path: Path, name: str) -> None:
    files, place = CASES[name]
    wanted = filled(files, NEW)[place]
    if "yaml" in name and "quoted" not in name:
        wanted = filled(files, f'"{NEW}"')[place] if b'"' in wanted else wanted
    changed = change(tmp_path, filled(files, OLD), {"initial-cluster": NEW})
    assert list(changed) == [place]
    assert changed[place] == wanted
    again = change(tmp_path, {**filled(files, OLD), **changed}, {"initial-cluster": NEW})
    assert again == {}


def test_what_is_missing_joins_its_like(tmp_path: Path) -> None:
    env = 'ETCD_NAME="m0"\n#c\nETCD_DATA_DIR="/d"\nETCDCTL_API="3"\n'
    changed = change(tmp_path, {UNIT: PLAIN, "/etc/etcd.env": env}, BOTH)
    assert changed == {
        "/etc/etcd.env": (
            f'ETCD_NAME="m0"\n#c\nETCD_DATA_DIR="/d"\nETCD_INITIAL_CLUSTER="{NEW}"\n'
            'ETCD_INITIAL_CLUSTER_STATE="existing"\nETCDCTL_API="3"\n'
        ).encode()
    }


def test_what_is_missing_becomes_a_flag_where_there_are_only_flags(tmp_path: Path) -> None:
    changed = change(tmp_path, {UNIT: FLAGS.format("")}, BOTH)
    more = f"--data-dir=/d --initial-cluster={NEW} --initial-cluster-state=existing\n"
    assert changed[UNIT].decode() == FLAGS.format("").replace("--data-dir=/d\n", more)


def test_what_is_missing_in_a_configuration_file(tmp_path: Path) -> None:
    unit = "[Service]\nExecStart=/usr/bin/etcd --config-file=/c\n"
    text = "name: m0\ninitial-cluster-state:\ncors: # none\n"
    changed = change(tmp_path, {UNIT: unit, "/c": text}, BOTH)
    after = text.replace("state:", "state: existing") + f"initial-cluster: {NEW}\n"
    assert changed["/c"].decode() in (after, after.replace(NEW, f'"{NEW}"'))


@pytest.mark.parametrize(
    ("files", "flags", "told"),
    [
        ({VENDOR: FLAGS.format(f"  --initial-cluster={OLD} \\\n")}, BOTH, "belongs to a package"),
        ({UNIT: FLAGS.format("  --initial-cluster=${A},${B} \\\n")}, BOTH, "put together"),
        (
            {UNIT: FLAGS.format("").replace("/usr/bin/etcd", "/bin/sh -c 'etcd --cors=x'")},
            BOTH, "shell script",
        ),
        (
            {UNIT: "[Service]\nExecStart=/bin/sh -c 'etcd --initial-cluster=a=b'\n"},
            BOTH, "script of a shell",
        ),
        (
            {UNIT: PLAIN, "/etc/etcd.env": "ETCD_INITIAL_CLUSTER=a=b   ### mine\n"},
            BOTH, "looks like a comment",
        ),
        ({UNIT: PLAIN, "/etc/etcd.env": 'ETCD_INITIAL_CLUSTER="a="b\n'}, BOTH, "several quotes"),
        ({UNIT: PLAIN, "/etc/etcd.env": "ETCD_INITIAL_CLUSTER=a=\\\nb\n"}, BOTH, "several lines"),
        (
            {UNIT: "[Service]\nExecStart=/usr/bin/etcd --config-file=/c\n",
             "/c": "name: a\ninitial-cluster: |\n  a=b\n"},
            BOTH, "block",
        ),
        ({UNIT: FLAGS.format("")}, {"initial-cluster": "two words"}, "needs quotes"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, files: Texts, flags: Flags, told: str) -> None:
    with pytest.raises(Refused, match=told) as error:
        change(tmp_path, dict(files), flags)
    assert error.value.next


@pytest.mark.parametrize("value", ["", "a\nb", "\0"])
def test_no_value_of_a_flag(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError):
        change(tmp_path, {UNIT: PLAIN, "/etc/etcd.env": ENV}, {"name": value})


@pytest.mark.parametrize(
    "files",
    [
        {UNIT: PLAIN, "/etc/etcd.env": ENV + "ETCD_FORCE_NEW_CLUSTER=true\n#c\n"},
        {UNIT: FLAGS.format("  --force-new-cluster \\\n")},
        {UNIT: FLAGS.format("  --force-new-cluster=true \\\n")},
        {UNIT: PLAIN + "Environment=A=b ETCD_FORCE_NEW_CLUSTER=1\n", "/etc/etcd.env": ENV},
        {UNIT: PLAIN + "Environment=ETCD_FORCE_NEW_CLUSTER=1\n", "/etc/etcd.env": ENV},
        {
            UNIT: FLAGS.format("  --force-new-cluster \\\n").replace(
                "[Service]", "[Service]\nEnvironment=ETCD_FORCE_NEW_CLUSTER=true"
            )
        },
        {
            UNIT: "[Service]\nExecStart=/usr/bin/etcd --config-file=/c\n",
            "/c": "name: a\nforce-new-cluster: true\ndata-dir: /d\n",
        },
    ],
)
def test_remove(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    changed = change(tmp_path, files, {"force-new-cluster": None})
    host = make_host(tmp_path, {**files, **changed})
    assert "force-new-cluster" not in read_view(host, "etcd.service").values
    after = b"".join(changed.values()).upper().replace(b"-", b"_")
    assert b"FORCE_NEW_CLUSTER" not in after
