"""What a failed call to etcd means: one error, with a condition that code can act on."""

from __future__ import annotations

from enum import Enum

from agent.errors import RescueError


class Condition(str, Enum):
    """What a failed call to etcd means."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TLS = "tls"
    NO_LEADER = "no leader"
    UNHEALTHY = "unhealthy cluster"
    NOT_IN_SYNC = "learner not in sync"
    NOT_LEARNER = "not a learner"
    LEARNER = "not answered by a learner"
    TOO_MANY_LEARNERS = "too many learners"
    NOT_ENOUGH_STARTED = "not enough started members"
    MEMBER_NOT_FOUND = "member not found"
    MEMBER_EXISTS = "member exists"
    NOT_LEADER = "not the leader"
    NO_SPACE = "no space"
    CORRUPT = "corrupt"
    COMPACTED = "revision compacted"
    DENIED = "permission denied"
    NO_GATEWAY = "no JSON gateway that works"
    UNSUPPORTED = "not supported by this version"
    OTHER = "other"


_MESSAGES: tuple[tuple[str, Condition], ...] = (
    # api/v3rpc/rpctypes/error.go of etcd; the first match wins.
    ("in sync with leader", Condition.NOT_IN_SYNC),
    ("can only promote a learner", Condition.NOT_LEARNER),
    ("rpc not supported for learner", Condition.LEARNER),
    ("too many learner", Condition.TOO_MANY_LEARNERS),
    ("not enough started members", Condition.NOT_ENOUGH_STARTED),
    ("member not found", Condition.MEMBER_NOT_FOUND),
    ("member ID already exist", Condition.MEMBER_EXISTS),
    ("Peer URLs already exists", Condition.MEMBER_EXISTS),
    ("unhealthy cluster", Condition.UNHEALTHY),
    ("not leader", Condition.NOT_LEADER),
    ("no leader", Condition.NO_LEADER),
    ("leader changed", Condition.NO_LEADER),
    ("database space exceeded", Condition.NO_SPACE),
    ("corrupt cluster", Condition.CORRUPT),
    ("has been compacted", Condition.COMPACTED),
    ("etcdserver: permission denied", Condition.DENIED),
    ("etcdserver: user name is empty", Condition.DENIED),
    ("request timed out", Condition.TIMEOUT),
    ("context deadline exceeded", Condition.TIMEOUT),
    # The gateway is a client of the same etcd, and these are grpc-go's words for what befell it;
    # seen from 3.4, 3.5 and 3.6 with a server certificate without clientAuth.
    ("connection closed", Condition.NO_GATEWAY),
    ("connection error: desc", Condition.NO_GATEWAY),
    ("error reading server preface", Condition.NO_GATEWAY),
    ("authentication handshake failed", Condition.NO_GATEWAY),
    # The same, where etcd hangs up while its gateway still writes.
    ("broken pipe", Condition.NO_GATEWAY),
    ("connection reset by peer", Condition.NO_GATEWAY),
)
_DEADLINE_EXCEEDED = 4  # google.golang.org/grpc/codes
_OUTAGES = (
    Condition.UNREACHABLE, Condition.TIMEOUT, Condition.TLS, Condition.NO_LEADER,
    Condition.UNHEALTHY,
)  # fmt: skip


class EtcdError(RescueError):
    """A call to etcd that did not work.

    condition: what that means. code, message: gRPC's, 0 and "" where no etcd said anything.
    sent: the request may have reached etcd, so a write may have happened or may still happen.
    """

    kind = "etcd"

    def __init__(
        self,
        seen: str,
        condition: Condition,
        code: int = 0,
        message: str = "",
        sent: bool = True,
        why: str = "",
        next: str = "",
    ) -> None:
        super().__init__(seen, why, next)
        self.condition, self.code, self.message, self.sent = condition, code, message, sent
        self.exit_code = 4 if condition in _OUTAGES else 1

    @property
    def is_not_in_sync(self) -> bool:
        """A learner that may still be catching up, or that never started: etcd says the same."""
        return self.condition is Condition.NOT_IN_SYNC

    @property
    def is_quorum_missing(self) -> bool:
        """The member answers, and cannot get a majority to agree in time."""
        return self.condition in (Condition.NO_LEADER, Condition.TIMEOUT, Condition.UNHEALTHY)


def condition_of(code: int, message: str) -> Condition:
    """The condition behind a gRPC code and etcd's message."""
    if code == _DEADLINE_EXCEEDED:
        return Condition.TIMEOUT
    return next((c for text, c in _MESSAGES if text in message), Condition.OTHER)
