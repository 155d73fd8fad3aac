"""Hypothesis profiles of the unit tests: few examples at the desk, many and always the same in CI.

A test that sets its own number of examples keeps it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("desk", max_examples=40, deadline=None)
settings.register_profile(
    "ci",
    max_examples=600,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
