import json
from pathlib import Path

import pytest

from stream_server.client.latency import Utterance
from stream_server.evaluation.references import ManifestError, parse_manifest

PATH = Path("/somewhere/list.json")


def test_the_included_manifest_is_read_whole(recordings: Path) -> None:
    path = recordings / "manifest.json"
    references = parse_manifest(path.read_bytes(), path)
    assert len(references.usable) == 13
    assert references.problems == ()
    assert all(reference.words and reference.timed for reference in references.usable)
    assert references.usable[0].fields["voice"] == "espeak-ng en-GB-x-rp+f5"
    assert len(references.usable[-1].timed) >= 9


def test_the_held_out_manifest_is_read_whole_with_its_words(recordings: Path) -> None:
    path = recordings / "heldout" / "manifest.json"
    references = parse_manifest(path.read_bytes(), path)
    assert len(references.usable) == 83
    assert references.problems == ()
    spoken = [reference for reference in references.usable if reference.speech]
    assert len(spoken) == 81
    assert all(reference.words and reference.timed for reference in spoken)
    (dialogue,) = (reference for reference in spoken if reference.file == "dialogue.flac")
    assert len(dialogue.timed) == 30
    assert dialogue.timed[-1].end_s == dialogue.words[-1].end_s
    assert {reference.fields["condition"] for reference in references.usable if not reference.speech} == {
        "silence",
        "noise only",
    }


def test_a_recording_without_speech_says_so_and_has_no_text() -> None:
    listed = [
        {"file": "a.wav", "speech": False, "condition": "silence"},
        {"file": "b.wav", "speech": False, "text": "Yes."},
        {"file": "c.wav", "speech": False, "text": " "},
    ]
    references = parse_manifest(json.dumps({"recordings": listed}).encode(), PATH)
    assert [(one.file, one.text, one.speech) for one in references.usable] == [
        ("a.wav", "", False),
        ("c.wav", "", False),
    ]
    assert references.problems == (
        "/somewhere/b.wav: the manifest says that nobody speaks, `speech` is false, and yet what is said",
    )


def test_times_come_from_speech_end_and_words() -> None:
    entry = {"file": "a.wav", "text": "Hi you", "words": [{"word": "Hi", "start": 0.5, "end": 0.7}]}
    data = json.dumps({"recordings": [entry, entry | {"speech_end": 1.5}, {"file": "b", "text": "x"}]})
    timed = [reference.timed for reference in parse_manifest(data.encode(), PATH).usable]
    assert timed == [(Utterance(0.5, 0.7, "Hi you"),), (Utterance(0.5, 1.5, "Hi you"),), ()]


def test_what_lacks_a_reference_is_named_and_the_rest_goes_on() -> None:
    listed = [{"file": "a.wav"}, {"file": "b.wav", "text": " "}, {"file": "c.wav", "text": "Yes."}]
    data = json.dumps({"recordings": listed, "dialogue": {"file": "d.wav"}}).encode()
    references = parse_manifest(data, PATH)
    assert [reference.file for reference in references.usable] == ["c.wav"]
    assert references.problems == (
        "/somewhere/a.wav: the manifest has no reference for it, `text` is missing; "
        'where nobody speaks, write `"speech": false`',
        "/somewhere/b.wav: its reference is empty, `text` has no words; "
        'where nobody speaks, write `"speech": false`',
        "/somewhere/d.wav: the manifest has no reference for it, `dialogue.utterances` is missing",
    )


@pytest.mark.parametrize(
    ("data", "named"),
    [
        pytest.param(b"hello", "JSON is malformed", id="fail/not-json"),
        pytest.param(b"\xff\xfe", "not a list of recordings", id="fail/not-utf8"),
        pytest.param(b"[]", "Expected `object`", id="fail/array"),
        pytest.param(b"{}", "neither `recordings` nor `dialogue`", id="fail/no-keys"),
        pytest.param(b'{"recordings": []}', "`recordings` is empty", id="fail/empty"),
        pytest.param(b'{"recordings": [{"text": "x"}]}', "field `file`", id="fail/no-file"),
        pytest.param(
            b'{"recordings": [{"file": "a", "text": 7}]}', "$.recordings[0].text", id="fail/text-type"
        ),
    ],
)
def test_a_wrong_manifest_is_one_line_with_file_and_key(data: bytes, named: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data, PATH)
    assert str(caught.value).startswith("/somewhere/list.json: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
