"""Start the stand-in: `python -m kubelet --config=FILE`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .agent import MANIFESTS, Agent
from .timing import KubeletTiming


def main() -> None:
    """Read the configuration and run for ever."""
    parser = argparse.ArgumentParser(prog="kubelet")
    parser.add_argument("--config", type=Path, default=Path("/etc/lab-kubelet.yaml"))
    timing = KubeletTiming.from_file(parser.parse_args().config)
    other = Path("/etc/lab-kubelet-directory")
    directory = Path(other.read_text().strip()) if other.exists() else MANIFESTS
    Agent(timing, directory).run()


main()
