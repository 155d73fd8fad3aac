"""The agent's own log, on stderr: for defects and lost lines, so it is loaded when one is told."""

from __future__ import annotations

from typing import Any


def logger() -> Any:
    """Give structlog's logger, set up to write to stderr.

    structlog loads asyncio and takes a third of the agent's start; most runs log nothing.
    """
    import logging
    import sys

    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    return structlog.get_logger()
