"""What all tests share: the cases of reliability that they prove."""

from __future__ import annotations

pytest_plugins = ["tests.reliability"]
