"""Captions from Python: stream PCM to a stream-server and read what was said.

    from certs.tls import client_context
    from stream_server.client import FinalEvent, connect, transcribe

    tls = client_context(Path("ca.pem"), Path("source-me.pem"), Path("source-me.key"))
    async with connect("wss://captions.example:8443/v1/stream", tls=tls) as stream:
        async for event in transcribe(stream, pcm_chunks()):
            if isinstance(event, FinalEvent):
                show(event.start, event.end, event.text)

The events are the structs of the protocol's schema, ``stream_server.dialects.schema`` and ``room_schema``.
"""

from stream_server.client.append_only import AppendOnly
from stream_server.client.errors import CaptionError, ClientError, ConnectFailed
from stream_server.client.opening import connect
from stream_server.client.pacing import Pace
from stream_server.client.reconnect import ConnectionState, Reconnect
from stream_server.client.revisions import Revisions, revised
from stream_server.client.room import Gap, RoomEvent, RoomReader
from stream_server.client.stream import CaptionStream, Event
from stream_server.client.tokens import MintedToken, TokenSource, mint_token
from stream_server.client.transcribing import transcribe
from stream_server.dialects.room_schema import (
    JoinedEvent,
    RoomFinalEvent,
    RoomPartialEvent,
    RoomUtteranceEvent,
    SourceJoinedEvent,
    SourceLeftEvent,
)
from stream_server.dialects.schema import (
    BeamObject,
    EndpointingObject,
    FinalEvent,
    FinishedEvent,
    FlushedEvent,
    LagEvent,
    LimitsObject,
    PartialEvent,
    SpeechStartedEvent,
    StartedEvent,
    TranscriptObject,
    UtteranceEvent,
    WarningEvent,
)

__all__ = [
    "AppendOnly",
    "BeamObject",
    "CaptionError",
    "CaptionStream",
    "ClientError",
    "ConnectFailed",
    "ConnectionState",
    "EndpointingObject",
    "Event",
    "FinalEvent",
    "FinishedEvent",
    "FlushedEvent",
    "Gap",
    "JoinedEvent",
    "LagEvent",
    "LimitsObject",
    "MintedToken",
    "Pace",
    "PartialEvent",
    "Reconnect",
    "Revisions",
    "RoomEvent",
    "RoomFinalEvent",
    "RoomPartialEvent",
    "RoomReader",
    "RoomUtteranceEvent",
    "SourceJoinedEvent",
    "SourceLeftEvent",
    "SpeechStartedEvent",
    "StartedEvent",
    "TokenSource",
    "TranscriptObject",
    "UtteranceEvent",
    "WarningEvent",
    "connect",
    "mint_token",
    "revised",
    "transcribe",
]
