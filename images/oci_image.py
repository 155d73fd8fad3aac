"""Builds the debug-pod image: `make image`. Needs no container engine, no registry and not root.

One file for a machine, dist/etcd-rescue-image-MACHINE.tar, to import into nodes or to push into a
registry; and with --root its file system as a directory, the context of images/Containerfile.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent.errors import RescueError
from coordinator.agent_file import PROJECT, AgentFile, build_agent
from coordinator.transports.pod_tools import DEFAULT_IMAGE
from images import oci, oci_root, runtime

OUTPUT = PROJECT / "dist"


@dataclass(frozen=True)
class ImageFile:
    """A built image. id: sha256 of its configuration. sha256: of the file. machine: `uname -m`."""

    path: Path
    reference: str
    id: str
    sha256: str
    machine: str


def build_image(
    machine: str = "", output: Path = OUTPUT, reference: str = DEFAULT_IMAGE
) -> ImageFile:
    """The image for nodes of `machine` (default: like this one).

    The same agent and the same runtime give the same file, to the bit. Raises what building either
    raises.
    """
    machine = machine or platform.machine()
    agent, tree = parts(machine)
    path = output / f"etcd-rescue-image-{machine}.tar"
    output.mkdir(parents=True, exist_ok=True)
    entries = oci_root.entries(tree, agent)
    with tempfile.TemporaryDirectory(dir=output, prefix=".image-") as folder:
        new = Path(folder) / path.name
        image = oci.write_image(new, reference, machine, entries, oci_root.image_config(agent))
        new.replace(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ImageFile(path, reference, image, digest, machine)


def parts(machine: str) -> tuple[AgentFile, Path]:
    """(the agent file, the runtime's tree) for a machine, each built where it is stale."""
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    return build_agent(machine=machine), runtime.build(machine, say=say).tree


def write_root(machine: str, target: Path) -> None:
    """Write the image's file system into a new directory."""
    agent, tree = parts(machine)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for entry in oci_root.entries(tree, agent):
        path = target / entry.name
        if entry.target:
            path.symlink_to(entry.target)
        elif entry.data is None:
            path.mkdir()
        else:
            path.write_bytes(entry.data)
        if not entry.target:
            path.chmod(entry.mode)


def main(argv: list[str] | None = None) -> int:
    """`python -m images.oci_image`."""
    parser = argparse.ArgumentParser(prog="python -m images.oci_image", description=__doc__)
    parser.add_argument("machines", nargs="*", metavar="MACHINE", help="x86_64, aarch64; or all")
    parser.add_argument("--reference", default=DEFAULT_IMAGE, help=f"default: {DEFAULT_IMAGE}")
    parser.add_argument("--root", action="store_true", help="the context of images/Containerfile")
    asked = parser.parse_args(argv)
    machines = asked.machines or [platform.machine()]
    try:
        for machine in list(oci.ARCHITECTURES) if machines == ["all"] else machines:
            if asked.root:
                target = OUTPUT / f"etcd-rescue-image-root-{machine}"
                write_root(machine, target)
                print(os.path.relpath(target))
                continue
            made = build_image(machine, reference=asked.reference)
            size = made.path.stat().st_size
            print(f"{os.path.relpath(made.path)} {size} bytes sha256 {made.sha256}")
            print(f"  {made.reference} {made.id}")
    except RescueError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
