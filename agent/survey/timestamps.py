"""Times as logs and runtimes write them, to seconds since the epoch."""

from __future__ import annotations

import calendar
import re
from typing import Union

_STAMP = re.compile(
    r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)"
    r"(?:[.,](\d{1,9})\d*)?\s?(Z|[+-]\d\d:?\d\d)?"
)
_NANOSECONDS = re.compile(r"\d{16,20}")


def parse_time(value: Union[str, int, float, None]) -> float:
    """RFC 3339, the same without zone (then UTC) or with slashes, epoch seconds or nanoseconds.

    0.0 for anything else, and for Go's zero time (year 1).
    """
    if isinstance(value, (int, float)):
        return float(value) / 1e9 if value > 1e12 else max(float(value), 0.0)
    if value is None:
        return 0.0
    if _NANOSECONDS.fullmatch(value):
        return int(value) / 1e9
    found = _STAMP.match(value)
    if not found:
        return 0.0
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if year < 1970 or not (1 <= month <= 12 and 1 <= day <= 31):
        return 0.0
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    fraction = float(f"0.{found.group(7)}") if found.group(7) else 0.0
    return seconds + fraction - _offset(found.group(8))


def _offset(zone: Union[str, None]) -> int:
    if not zone or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[0] == "-" else seconds
