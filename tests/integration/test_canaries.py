"""Words that must stay inside: said, sent or named in good and in bad streams, then looked for everywhere."""

from http.client import HTTPConnection
from pathlib import Path

import pytest
from live_server import FINISH, START, wire
from pki import Pki
from serve_command import address_printed, serve

from stream_server.engine.fake import numbered_speech, numbers_in

SPOKEN = 27_182_818
ROOM = "canary-room"
SPEAKER = "Kanaria Vogel"
NAME = "canary-certificate"
SENT = "canary-sent"


def secrets(pki: Pki) -> list[str]:
    """Everything to look for; of keys, a line from their middle."""
    keys = [pki.store.server_key, pki.store.ca_key, *(pki.store.folder / "clients").glob("*.key")]
    lines = [Path(key).read_text().splitlines()[1] for key in keys]
    return [str(SPOKEN), ROOM, SPEAKER, NAME, SENT, *lines]


@pytest.mark.slow
async def test_canary_words_are_in_no_log_and_no_metric(pki: Pki, free_port: int) -> None:
    pair = pki.client(NAME)
    reader = pki.client(f"{NAME}-reader", "reader")
    speech = numbered_speech([SPOKEN] * 60).tobytes()
    start = {**START, "room": ROOM, "speaker": SPEAKER}
    config = f"[engine]\nfake = true\n[server]\nport = 0\nops_port = {free_port}\n[log]\nlevel = 'debug'\n"
    config += "[limits]\nconnects_per_minute = 100\n"
    with serve(pki, config) as process:
        url = address_printed(process)
        async with wire(url, pki, pair) as client:
            await client.send(start, speech, FINISH)
            await client.rest()
        assert set(numbers_in(client.of("final")[0]["text"])) == {SPOKEN}
        mistakes = [
            f'{{"type": "{SENT}"}}',
            f"{{{SENT}",
            {**start, SENT: 1},
            {**start, "language": SENT},
            b"\0" * 3 + SENT.encode() * 2,
        ]
        for mistake in mistakes:
            async with wire(url, pki, pair) as client:
                await client.send(start, speech, mistake)
                await client.rest_or_error()
            assert client.events[-1]["type"] == "error"
        with pytest.raises(Exception, match="403"):
            async with wire(url, pki, reader):
                pass
        with pytest.raises(Exception, match="404"):
            async with wire(url.replace("/v1/stream", f"/{SENT}"), pki, pair):
                pass
        ops = HTTPConnection("127.0.0.1", free_port, timeout=10)
        ops.request("GET", "/metrics")
        metrics = ops.getresponse().read().decode()
        ops.close()
        process.terminate()
        printed = "".join(process.communicate(timeout=20))
    assert "session_closed" in printed
    assert "stt_" in metrics
    assert [secret for secret in secrets(pki) if secret in printed or secret in metrics] == []
