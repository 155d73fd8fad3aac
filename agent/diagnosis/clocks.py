"""How far the clocks of the hosts lie apart, as sure as a look over the network can be."""

from __future__ import annotations

from collections.abc import Sequence

from agent.model.facts import Observation

MAX_SKEW = 60.0
"""Seconds from which no certificate is judged or made by such a clock."""

SHOWN = 1.0
"""Seconds from which a difference is worth a warning: etcd itself warns from there."""


def apart(one: Observation, other: Observation) -> float:
    """Seconds by which two clocks differ at least; positive where the first one is ahead.

    Each clock is known to lie between two bounds (Observation.clock), so what is given holds
    whatever the network did; 0.0 where the bounds overlap, or nothing is known.
    """
    if one.clock is None or other.clock is None:
        return 0.0
    (low, high), (other_low, other_high) = one.clock, other.clock
    if low > other_high:
        return low - other_high
    return min(0.0, high - other_low)


def beyond(observations: Sequence[Observation], host: str, limit: float = MAX_SKEW) -> str:
    """What says that this host's clock and another's lie too far apart, in words; else empty."""
    own = next((o for o in observations if o.host == host), None)
    if own is None:
        return ""
    far = [(apart(own, o), o.host) for o in observations if abs(apart(own, o)) > limit]
    if not far:
        return ""
    seconds, other = max(far, key=lambda pair: abs(pair[0]))
    more = f" (and from {len(far) - 1} more)" if len(far) > 1 else ""
    return f"the clock of {host} is {_words(seconds)} that of {other}{more}"


def warnings(observations: Sequence[Observation]) -> list[str]:
    """A warning for every host whose clock is off from the middle one of all, beyond doubt."""
    known = sorted((o for o in observations if o.clock is not None), key=_middle)
    if len(known) < 2:
        return []
    middle = known[(len(known) - 1) // 2]
    found = []
    for observation in sorted(known, key=lambda o: o.host):
        seconds = apart(observation, middle)
        if abs(seconds) > SHOWN:
            found.append(
                f"the clock of {observation.host} is {_words(seconds)} that of {middle.host}: "
                f"set it (chronyc tracking, timedatectl){_weight(seconds)}"
            )
    return found


def _weight(seconds: float) -> str:
    return "; no certificate is judged or made until then" if abs(seconds) > MAX_SKEW else ""


def _middle(observation: Observation) -> tuple[float, str]:
    low, high = observation.clock or (0.0, 0.0)
    return (low + high) / 2, observation.host


def _words(seconds: float) -> str:
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'}"
