"""Several models in one server: recordings get theirs, live speech a lighter one while memory is short."""

from pathlib import Path

from live_server import FINISH, PAUSE, START, live_server, wire
from pki import ClientPair, Pki

from stream_server.engine.fake import numbered_speech
from stream_server.engine.faults import Fault, Faults
from stream_server.records.folder import AuditFolder
from stream_server.records.line import decode

SPEECH = numbered_speech(range(20)).tobytes() + PAUSE


async def test_recordings_are_read_by_the_model_for_files(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, engine={"tiers": {"files": "large"}}) as server:
        for start, model in ((START, "fake"), ({**START, "tier": "files"}, "fake-files")):
            async with wire(server.url, pki, source) as client:
                await client.send(start, SPEECH, FINISH)
                events = await client.rest()
                assert events[0]["model"] == model
                assert [event["text"] for event in events if event["type"] == "final"] == [
                    " ".join(map(str, range(20)))
                ]


async def test_a_shortage_of_memory_is_stepped_down_from_and_back_and_marked(
    pki: Pki, source: ClientPair, tmp_path: Path
) -> None:
    engine = {"tiers": {"fallback": "light"}, "recovery_s": 1}
    audit = {"folder": str(tmp_path / "log")}
    shortage = (Faults(at={1: Fault.OUT_OF_MEMORY}),)
    with live_server(pki, engine=engine, audit=audit, faults=shortage) as server:
        metrics = server.app._metrics
        async with wire(server.url, pki, source) as client:
            await client.send(START, SPEECH)
            assert "model" not in await client.receive("final")
            await server.until(lambda: metrics.stepped_down._value.get() == 1)
            await client.send(SPEECH)
            assert (await client.receive("final"))["model"] == "fake-fallback"
            await server.until(lambda: metrics.stepped_down._value.get() == 0)
            await client.send(SPEECH, FINISH)
            assert "model" not in await client.receive("final")
            await client.rest()
        for reason in ("out_of_memory", "recovered"):
            assert metrics.steps.labels(reason)._value.get() == 1
    log = AuditFolder(tmp_path / "log")
    entries = [decode(line) for number in log.numbers() for line in log.lines(number)]
    steps = [(entry.object, entry.detail["cause"]) for entry in entries if entry.action == "model.step"]
    assert steps == [("model:fake-fallback", "out_of_memory"), ("model:fake", "recovered")]
