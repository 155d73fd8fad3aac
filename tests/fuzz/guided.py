"""One reader under libFuzzer: inputs that reach new code are kept and changed further.

Run as a process of its own, since libFuzzer ends the one that it runs in:
`python -m tests.fuzz.guided READER RUNS SEED FOLDER`. Needs atheris, which `make fuzz` installs
where there is one for this Python. FOLDER keeps the inputs, and a failing one as crash-HASH.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import Corpus

MEMORY = 1024
"""MiB that a reader, with its samples and libFuzzer itself, may take."""


def is_there() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def start(name: str, corpus: list[bytes], runs: int, seed: int, folder: Path) -> Guided:
    """Begin with one reader, its samples put into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(corpus):
        (folder / f"sample-{number}").write_bytes(sample)
    argv = [sys.executable, "-m", "tests.fuzz.guided", name, str(runs), str(seed), str(folder)]
    return Guided(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))


class Guided:
    """A run under way."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def end(self) -> tuple[int, str]:
        """(inputs read, what went wrong; empty if nothing)."""
        said = self._process.communicate()[0].decode(errors="replace")
        done = re.search(r"Done (\d+) runs", said)
        if self._process.returncode == 0 and done:
            return int(done[1]), ""
        return 0, said[-4000:]


def main(name: str, runs: str, seed: str, folder: str) -> None:
    """Be the process; does not return."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["agent", "coordinator"]):
        from tests.fuzz.readers import READERS

    reader = READERS[name]

    def one(data: bytes) -> None:
        reader.try_read(data)
        if reader.repair:
            reader.try_read(reader.repair(data))

    limits = [f"-runs={runs}", f"-seed={seed}", "-max_len=65536", "-timeout=20", "-verbosity=1"]
    limits += [f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *limits, folder], one)
    atheris.Fuzz()


def samples_of(name: str, found: Corpus) -> list[bytes]:
    """The samples of a reader."""
    from tests.fuzz.readers import READERS

    return list(READERS[name].samples(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
