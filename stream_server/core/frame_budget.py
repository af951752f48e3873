"""How many WebSocket frames one connection may send; pure.

Bytes are bounded by back-pressure, since a session that is ahead of decoding is not read. Frames are not:
each costs the server work, however little is in it. One with 10 ms of telephone audio or more pays for
itself. What is smaller, and what the protocol answers by itself, comes out of a bucket that fills slowly.
"""

from stream_server.core.bucket import Bucket

SMALL_BYTES = 80
"""10 ms of G.711, the smallest piece in which audio is sent. Frames of less are counted."""


class FrameBudget:
    """What a connection has left to send.

    The burst of small frames is what a client may have kept to say again after a lost connection.
    """

    def __init__(self) -> None:
        self._small = Bucket(burst=4_000, per_s=100)
        self._control = Bucket(burst=100, per_s=10)

    def take(self, n_bytes: int, now_s: float, *, is_control: bool) -> bool:
        """Note a frame; False when it is one too many.

        Args:
            n_bytes: Its payload.
            now_s: Any clock that does not go back.
            is_control: A ping, pong or close.
        """
        if is_control:
            return self._control.take(now_s)
        return n_bytes >= SMALL_BYTES or self._small.take(now_s)
