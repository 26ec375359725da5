"""Logging: one event name a line (``noun.verb``), readable on a terminal, JSON elsewhere, to stderr."""

import logging
import os
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "json")
_FIRST_KEYS = ("ts", "level", "event", "session", "phase", "attempt", "runtime")


def configure(log_format: str = "auto", level: str = "info") -> None:
    """Set up structlog, and the standard library's logging on top of it.

    Args:
        log_format: ``text``, ``json``, or ``auto`` for text on a terminal and JSON elsewhere.
        level: the lowest level that is written: debug, info, warning, error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    render: tuple[Processor, ...]
    if text:
        colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        render = (structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="ts", pad_event_to=24),)
    else:
        render = (structlog.processors.format_exc_info, _order, structlog.processors.JSONRenderer())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=max(number, logging.WARNING), force=True)


class _ToStructlog(logging.Handler):
    """Third parties' log records as one more event, so that a log file has one shape."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        write = log.error if record.levelno >= logging.ERROR else log.warning
        write("library.logged", library=record.name, message=record.getMessage(), exc_info=record.exc_info)


def _order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    first = {key: event[key] for key in _FIRST_KEYS if key in event}
    return {**first, **event}
