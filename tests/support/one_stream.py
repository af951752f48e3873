"""A server, one stream of a microphone and one reader, in this process's network namespace.

Prints as JSON what the client heard and how many packets left a watched namespace meanwhile.

    python one_stream.py FOLDER
"""

import asyncio
import json
import sys
from pathlib import Path

from live_server import FINISH, START, live_server, wire
from namespaces import packets_out
from pki import make_pki

from stream_server.engine.fake import numbered_speech, numbers_in

N_FRAMES = 60


async def _stream(folder: Path) -> dict[str, object]:
    pki = make_pki(folder)
    before = packets_out()
    with live_server(pki) as server:
        async with wire(server.url, pki, pki.client()) as client:
            await client.send(START, numbered_speech(range(N_FRAMES)).tobytes(), FINISH)
            await client.rest()
    numbers = [number for final in client.of("final") for number in numbers_in(final["text"])]
    kinds = [event["type"] for event in client.events]
    return {"numbers": numbers, "last": kinds[-1], "packets_out": packets_out() - before}


if __name__ == "__main__":
    told = asyncio.run(_stream(Path(sys.argv[1])))
    sys.stdout.write(json.dumps(told))
