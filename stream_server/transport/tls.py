"""The TLS context of the listener behind a holder that can be given another one.

A live ``ssl.SSLContext`` is never edited: a key that does not match its certificate would break every
later handshake. A new context is built, and handed to ``swap``; connections that are open keep theirs.
"""

import ssl
from typing import Any


class SwappableContext(ssl.SSLContext):
    """Stands in for whatever context is current, for event loops that ask for one context for good.

    asyncio and uvloop use a server's context through ``wrap_bio`` only.
    """

    _current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> "SwappableContext":
        """Make a holder of ``current``."""
        holder = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        holder._current = current
        return holder

    def __init__(self, current: ssl.SSLContext) -> None:
        # ssl.SSLContext takes its arguments in __new__.
        super().__init__()

    def swap(self, context: ssl.SSLContext) -> None:
        """Use another context for handshakes from now on."""
        self._current = context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:  # passes on whatever ssl defines
        """Begin a handshake with the current context."""
        return self._current.wrap_bio(*args, **kwargs)
