"""verify.sh on a small bundle: what is whole passes, and nothing else does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.build import NAMESPACE, SIGNATURE, SUMS, _sign, _sum_up

CARRY = Path(__file__).parents[3] / "bundle/carry"
TOOLS = ("sha256sum", "mktemp", "rm", "cat", "base64", "tr", "ssh-keygen")
"""All that verify.sh may call: coreutils, and ssh-keygen."""

needs_ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen here")
pytestmark = needs_ssh


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ann signs; eve does not."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ann", "eve"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    signers = "".join(f"{n}@example.org {(folder / f'{n}.pub').read_text()}" for n in ("ann",))
    (folder / "signers").write_text(signers)
    (folder / "others").write_text(f"eve@example.org {(folder / 'eve.pub').read_text()}")
    return folder


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    for name in (*TOOLS, "sh"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


Verify = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def verify(tools: Path, keys: Path, tmp_path: Path) -> Verify:
    """Run verify.sh of the bundle in tmp_path/b, with nothing else on the PATH."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(tools / "sh"), "b/verify.sh", *words]
        return subprocess.run(
            argv,
            cwd=tmp_path,
            env={"PATH": str(tools)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def bundle(tmp_path: Path, keys: Path) -> Path:
    """A signed bundle of few files."""
    top = make(tmp_path / "b")
    _sign(top / SUMS, keys / "ann")
    return top


def make(top: Path) -> Path:
    (top / "docs/deeper").mkdir(parents=True)
    shutil.copy(CARRY / "verify.sh", top)
    (top / "BUNDLE.json").write_text("{}\n")
    (top / "empty").write_bytes(b"")
    (top / "docs/page.md").write_text("a page\n")
    (top / "docs/deeper/data").write_bytes(bytes(range(256)))
    _sum_up(top)
    return top


def refused(ended: subprocess.CompletedProcess[str], told: str = "REFUSED") -> None:
    assert ended.returncode != 0, ended.stdout
    assert told in ended.stderr
    assert "signed by" not in ended.stdout


def test_a_whole_one(bundle: Path, verify: Verify, keys: Path) -> None:
    signed = verify("--signer", str(keys / "ann.pub"))
    assert (signed.returncode, signed.stderr) == (0, "")
    assert "signed by the key in" in signed.stdout
    listed = verify("--allowed-signers", str(keys / "signers"))
    assert listed.returncode == 0
    assert "signed by ann@example.org" in listed.stdout
    damage_only = verify()
    assert damage_only.returncode == 0
    assert "NOT CHECKED whose key" in damage_only.stdout


def test_by_another_way_into_it(bundle: Path, tools: Path, keys: Path, tmp_path: Path) -> None:
    own = shutil.copy(CARRY / "verify.sh", tmp_path / "own.sh")
    for cwd, words in (
        (bundle, ["verify.sh"]), ("/", [str(own), "--bundle", str(bundle)]),
        (tmp_path, ["b//verify.sh"]), (bundle / "docs", ["../verify.sh"]),
    ):  # fmt: skip
        argv = [str(tools / "sh"), *words, "--signer", str(keys / "ann.pub")]
        assert subprocess.run(argv, cwd=cwd, env={"PATH": str(tools)}, check=True)


def test_an_unsigned_one_says_so(tmp_path: Path, verify: Verify, keys: Path) -> None:
    make(tmp_path / "b")
    ended = verify()
    assert ended.returncode == 0
    assert "UNSIGNED: nobody vouches" in ended.stdout
    refused(verify("--signer", str(keys / "ann.pub")), "not signed")


def test_another_signer(bundle: Path, verify: Verify, keys: Path) -> None:
    refused(verify("--signer", str(keys / "eve.pub")), "not signed by the key in")
    refused(verify("--allowed-signers", str(keys / "others")), "none of those")


def test_a_signature_for_another_purpose(bundle: Path, verify: Verify, keys: Path) -> None:
    (bundle / SIGNATURE).unlink()
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "etcd-rescue@plan", "-f", str(keys / "ann")]
    subprocess.run([*argv, str(bundle / SUMS)], check=True, capture_output=True)
    refused(verify("--signer", str(keys / "ann.pub")))
    refused(verify())
    assert NAMESPACE != "etcd-rescue@plan"


def test_a_revoked_key(bundle: Path, verify: Verify, keys: Path) -> None:
    words = ("--allowed-signers", str(keys / "signers"), "--revoked", str(keys / "ann.pub"))
    refused(verify(*words), "does not count")


def test_a_key_whose_time_is_over(bundle: Path, verify: Verify, keys: Path, tmp_path: Path) -> None:
    line = (keys / "ann.pub").read_text()
    (tmp_path / "old").write_text(f'ann@example.org valid-before="20200101" {line}')
    refused(verify("--allowed-signers", str(tmp_path / "old")))


@pytest.mark.parametrize("name", ["docs/page.md", "docs/deeper/data", "empty", "BUNDLE.json"])
def test_a_missing_file(bundle: Path, verify: Verify, keys: Path, name: str) -> None:
    (bundle / name).unlink()
    refused(verify("--signer", str(keys / "ann.pub")), f"{name} is missing")


@pytest.mark.parametrize(
    "name",
    ["extra", ".hidden", "docs/extra", "docs/deeper/.x", "docs/page.md\ndocs/deeper/data", "a b"],
)
def test_an_extra_file(bundle: Path, verify: Verify, keys: Path, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text("")
    refused(verify("--signer", str(keys / "ann.pub")), "belong here")


def test_what_is_no_file(bundle: Path, verify: Verify, keys: Path) -> None:
    words = ("--signer", str(keys / "ann.pub"))
    (bundle / "link").symlink_to("empty")
    refused(verify(*words), "is a link")
    (bundle / "link").unlink()
    (bundle / "docs/page.md").rename(bundle.parent / "page.md")
    (bundle / "docs/page.md").symlink_to("../../page.md")
    refused(verify(*words), "is a link")
    (bundle / "docs/page.md").unlink()
    os.mkfifo(bundle / "docs/page.md")
    refused(verify(*words))


@pytest.mark.parametrize("name", ["docs/page.md", "docs/deeper/data", "BUNDLE.json", "verify.sh"])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit(bundle: Path, verify: Verify, keys: Path, name: str, bit: int) -> None:
    flip(bundle / name, -1, bit)
    refused(verify("--signer", str(keys / "ann.pub")), f"{name} was changed")


def flip(path: Path, at: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("name", [SUMS, SIGNATURE])
def test_any_flipped_bit_of_what_vouches(
    bundle: Path, verify: Verify, keys: Path, name: str
) -> None:
    path = bundle / name
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        flip(path, at, at % 8)
        refused(verify("--signer", str(keys / "ann.pub")))
        path.write_bytes(whole)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        refused(verify("--signer", str(keys / "ann.pub")))
    path.write_bytes(whole + b"\n")
    refused(verify("--signer", str(keys / "ann.pub")))


@pytest.mark.parametrize(
    "line",
    [
        "{h}  ../outside", "{h}  /etc/passwd", "{h}  docs/../empty", "{h} *empty", "\\{h}  empty",
        "{h}  -", "{h}  empty", "# a comment", "", "{h}  a b",
    ],
)  # fmt: skip
def test_a_line_that_is_none(tmp_path: Path, verify: Verify, line: str) -> None:
    top = make(tmp_path / "b")
    with (top / SUMS).open("a") as file:
        file.write(line.format(h="0" * 64) + "\n")
    refused(verify())


@pytest.mark.parametrize(
    "words", [["--signer"], ["--who", "x"], ["--signer", "/nowhere"], ["--bundle", "/nowhere"]]
)
def test_questions_that_make_no_sense(bundle: Path, verify: Verify, words: list[str]) -> None:
    assert verify(*words).returncode == 2
