"""What a survey found on one host. Times are seconds since the epoch, sizes are bytes.

IDs of members and clusters are 16 lower-case hex digits, as etcdctl prints them. Python 3.9 reads
these types at run time, so they say Optional[X] and not X | None.
"""

from agent.model.facts.etcd import (
    Alarm,
    Binary,
    Damage,
    DbFacts,
    EtcdConfig,
    EtcdProcess,
    Member,
    OfflineFacts,
    OnlineFacts,
    TlsFiles,
    WalFacts,
)
from agent.model.facts.host import (
    Cause,
    Certificate,
    Container,
    Disk,
    Runtime,
    Service,
    Stray,
)
from agent.model.facts.rescue import Fence, JournalFacts, Lock, Parked
from agent.model.facts.survey import FORMAT, Observation, Sighting, Survey

__all__ = [
    "FORMAT",
    "Alarm",
    "Binary",
    "Cause",
    "Certificate",
    "Container",
    "Damage",
    "DbFacts",
    "Disk",
    "EtcdConfig",
    "EtcdProcess",
    "Fence",
    "JournalFacts",
    "Lock",
    "Member",
    "Observation",
    "OfflineFacts",
    "OnlineFacts",
    "Parked",
    "Runtime",
    "Service",
    "Sighting",
    "Stray",
    "Survey",
    "TlsFiles",
    "WalFacts",
]
