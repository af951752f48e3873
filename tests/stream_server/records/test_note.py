import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from stream_server.records.note import (
    Checkpoint,
    NoteError,
    announced_key,
    open_note,
    public_bytes,
    sign,
    split_notes,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = public_bytes(KEY.public_key())
PLAIN = Checkpoint("stream-server-audit/0123456789abcdef/000001", 7, bytes(32))
CLOSING = Checkpoint("stream-server-audit/0123456789abcdef/000001", 7, bytes(32), next_key=bytes(range(32)))


@pytest.mark.parametrize("checkpoint", [PLAIN, CLOSING])
def test_a_note_opens_with_the_key_that_signed_it(checkpoint: Checkpoint) -> None:
    assert open_note(sign(checkpoint, KEY), PUBLIC) == checkpoint


def test_a_note_has_the_form_of_a_signed_note() -> None:
    lines = sign(CLOSING, KEY).split("\n")
    assert lines[:2] == ["stream-server-audit/0123456789abcdef/000001", "7"]
    assert base64.b64decode(lines[2]) == bytes(32)
    assert lines[3].startswith("next-key ")
    assert lines[4] == ""
    assert lines[5].startswith("\N{EM DASH} stream-server-audit/0123456789abcdef ")
    assert len(base64.b64decode(lines[5].split(" ")[2])) == 4 + 64


def test_another_key_does_not_open_it() -> None:
    other = public_bytes(Ed25519PrivateKey.generate().public_key())
    with pytest.raises(NoteError, match="another key"):
        open_note(sign(PLAIN, KEY), other)


@given(st.integers(0), st.integers(0, 255))
def test_no_byte_of_a_note_can_be_changed(where: int, value: int) -> None:
    note = bytearray(sign(CLOSING, KEY).encode())
    where %= len(note)
    if note[where] == value:
        value ^= 1
    note[where] = value
    with pytest.raises((NoteError, UnicodeDecodeError)):
        open_note(note.decode(), PUBLIC)


@given(st.text())
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        open_note(text, PUBLIC)


def test_notes_stand_one_after_the_other() -> None:
    notes = [sign(PLAIN, KEY), sign(CLOSING, KEY)]
    assert split_notes("".join(notes)) == notes
    assert [announced_key(note) is None for note in notes] == [True, False]


def test_half_a_note_at_the_end_is_told() -> None:
    note = sign(PLAIN, KEY)
    with pytest.raises(NoteError, match="in the middle"):
        split_notes(note + note[:-1])
