"""Structured logs on standard error: one event a line, fields beside it, never speech or text.

Call sites name the event and give the fields: ``log.info("session_closed", extra=fields(...))``.
Fields are numbers, codes, addresses, session ids and the first 8 hex digits of a certificate's
fingerprint; names from certificates stand in the audit log only.
"""

import json
import logging
import sys
import time
from dataclasses import dataclass
from typing import Any

_FIELDS = "stream_server_fields"
REPEATS_S = 60.0
REPEATS_MAX = 30
"""Lines of one kind of warning in ``REPEATS_S``."""


def fields(**values: object) -> dict[str, object]:
    """The ``extra`` argument that carries an event's fields."""
    return {_FIELDS: values}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; control characters are escaped, so that no input can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, Any] = {  # whatever a field holds
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """The same for a person: time, level, event, key=value; only a traceback makes more lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        pairs = " ".join(f"{key}={value!s}" for key, value in getattr(record, _FIELDS, {}).items())
        line = _printable(f"{clock} {record.levelname.lower():7} {record.getMessage()} {pairs}".rstrip())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class RepeatFilter(logging.Filter):
    """Lets a flood of one kind of warning become some lines a minute.

    A kind is event and reason. The first line of a minute says how many were left out in the one before. The
    audit log counts refusals by address, and metrics count all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, object], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it."""
        if record.levelno < logging.WARNING:
            return True
        told: dict[str, object] = getattr(record, _FIELDS, {})
        kind = self._kinds.setdefault((record.msg, told.get("reason")), _Kind(record.created))
        if record.created - kind.since_s >= REPEATS_S:
            suppressed = max(0, kind.n_lines - REPEATS_MAX)
            kind.since_s, kind.n_lines = record.created, 0
            if suppressed:
                setattr(record, _FIELDS, {**told, "suppressed": suppressed})
        kind.n_lines += 1
        return kind.n_lines <= REPEATS_MAX


@dataclass(slots=True)
class _Kind:
    since_s: float
    n_lines: int = 0


def _printable(text: str) -> str:
    """Escape what would start a line or command a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def set_up_logging(level: str, style: str) -> None:
    """Send all logs to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        style: ``json`` or ``text``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RepeatFilter())
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Its info lines repeat ours, its debug lines hold what clients say.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
