"""The agent's own log, on stderr: for defects and lost lines, so it is loaded when one is told."""

from __future__ import annotations

import os
from typing import Any

DEBUG = "ETCD_RESCUE_DEBUG"
"""Variable that asks for a log of every command. It is not handed on to what we start."""


def is_debug() -> bool:
    """Whether every command is to be logged too."""
    return bool(os.environ.get(DEBUG))


def debug(event: str, **facts: Any) -> None:
    """Log one event where the operator asked for all of them; no content of files, no output."""
    if is_debug():
        logger().debug(event, **facts)


def logger() -> Any:
    """Give structlog's logger, set up to write to stderr.

    structlog loads asyncio and takes a third of the agent's start; most runs log nothing. Traces
    are plain: the usual ones show local variables, where keys and values pass through.
    """
    import logging
    import sys

    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if is_debug() else logging.INFO
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    return structlog.get_logger()
