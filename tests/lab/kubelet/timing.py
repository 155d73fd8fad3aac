"""How fast the stand-in does what a kubelet does."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml


@dataclass(frozen=True)
class KubeletTiming:
    """All in seconds.

    teardown: from the end of an old pod's containers until a pod of another UID may take its place.
    readmit: from the removal of a manifest until the same content, put back, starts again.
    backoff_base, backoff_max: the first and the longest wait before a dead container's restart.
    poll: how often the manifest directory is looked at.
    """

    teardown: float = 0.3
    readmit: float = 0.3
    backoff_base: float = 0.5
    backoff_max: float = 2.0
    poll: float = 0.1

    def to_yaml(self) -> str:
        """The text of the stand-in's configuration file."""
        return yaml.safe_dump(asdict(self))

    @classmethod
    def from_file(cls, path: Path) -> KubeletTiming:
        """Read a configuration file; what it does not say keeps its default."""
        told = yaml.safe_load(path.read_text()) or {}
        known = {field.name for field in fields(cls)}
        return cls(**{key: float(value) for key, value in told.items() if key in known})


# What kubelet 1.36 was measured to do.
MEASURED = KubeletTiming(teardown=12.0, readmit=1.5, backoff_base=10.0, backoff_max=300.0, poll=0.1)
