"""A small version of ``benchmarks/rooms.py``: a room with readers, and one that never reads."""

from live_server import live_server
from pki import ClientPair, Pki

from benchmarks.rooms import measure
from certs.tls import client_context


async def test_every_final_reaches_every_reader_in_time_though_one_never_reads(
    pki: Pki, source: ClientPair
) -> None:
    rooms = {"readers_per_identity": 1000, "connects_per_minute": 100_000}
    tls = client_context(pki.ca, source.cert, source.key)
    with live_server(pki, rooms=rooms) as server:
        url = server.url.removesuffix("/v1/stream")
        outcome = await measure(url, tls, n_readers=30, n_utterances=4, chunk_s=0.005)
    assert outcome.n_lost == 0
    assert outcome.n_finals >= 4
    # The benchmark's figure is for a quiet machine; this finds out what is broken, not what is slow.
    assert outcome.percentile_ms(95) < 1_000
