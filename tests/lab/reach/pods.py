"""What a test with debug pods needs: the image on every node, and oc or kubectl on the PATH."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from images.oci_image import ImageFile, build_image
from tests.lab.lab import Lab
from tests.lab.paths import REPO_DIR, STATE_DIR
from tests.lab.reach import debug_pods

_FOLDERS = STATE_DIR / "clients"
_SCRIPT = """\
#!{python}
import sys

sys.path.insert(0, "{root}")
from tests.lab.reach.clients import main

sys.exit(main("{tool}", sys.argv[1:]))
"""


@cache
def image() -> ImageFile:
    """The image of this tree, built once a run."""
    return build_image()


def prepare(lab: Lab) -> None:
    """Put the image into every node's store, and cut SSH off: nothing may go that way."""
    archive = image().path
    with ThreadPoolExecutor(len(lab.hosts)) as pool:
        list(pool.map(lambda host: debug_pods.import_image(host, archive), lab.hosts.values()))
    for host in lab.hosts.values():
        host.cut_network(ports=[22])


def path_with(*tools: str) -> str:
    """A PATH on which these clients come first, and no other of them is."""
    folder = Path(f"{_FOLDERS}-{'-'.join(tools)}")
    folder.mkdir(exist_ok=True)
    for tool in tools:
        script = folder / tool
        script.write_text(_SCRIPT.format(python=sys.executable, root=REPO_DIR, tool=tool))
        script.chmod(0o755)
    others = [p for p in os.environ["PATH"].split(":") if not p.startswith(f"{_FOLDERS}-")]
    return ":".join([str(folder), *others])


def agents(lab: Lab, name: str) -> Sequence[int]:
    """Agents that run in a pod on a host, by their number in the enclosure."""
    found = []
    home = os.readlink(f"/proc/{lab.hosts[name].leader}/ns/net")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
            if os.readlink(folder / "ns/net") == home and argv[0] == b"python3":
                found.append(int(folder.name))
        except OSError:
            continue
    return found
