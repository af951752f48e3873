"""AES keys on a token that speaks PKCS#11, used by the key helper and by nothing else.

The token computes; its key never leaves it. A data key is wrapped by AES-256-GCM (CKM_AES_GCM) with a random
nonce of 12 bytes, which stands before what it gave.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from stream_server.errors import ModelError
from stream_server.sealing.external import TokenKey
from stream_server.sealing.places import read_secret

_NONCE_BYTES = 12
_TAG_BITS = 128
_PURPOSE = b"stream-server sealed 1"
"""Bound to what is wrapped: the same key may encrypt other things, and none of them passes for a data key."""
_TOKENS_SHOWN = 10


def wrap(key: TokenKey, data_key: bytes) -> bytes:
    """Let the token encrypt a data key.

    Raises:
        ModelError: It refuses, or is not there; says what to do.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    with _on_token(key) as (pkcs11, handle):
        sealed: bytes = handle.encrypt(data_key, **_gcm(pkcs11, nonce))
    return nonce + sealed


def unwrap(key: TokenKey, wrapped: list[bytes]) -> bytes:
    """Let the token decrypt the first of these that it can.

    Raises:
        ModelError: It can none, refuses, or is not there; says what to do.
    """
    with _on_token(key) as (pkcs11, handle):
        # Libraries differ in what they say of a tag that is wrong.
        wrong = (
            pkcs11.EncryptedDataInvalid,
            pkcs11.EncryptedDataLenRange,
            pkcs11.DataInvalid,
            pkcs11.DataLenRange,
            pkcs11.GeneralError,
            pkcs11.FunctionFailed,
        )
        for one in wrapped:
            try:
                data_key: bytes = handle.decrypt(one[_NONCE_BYTES:], **_gcm(pkcs11, one[:_NONCE_BYTES]))
            except wrong:
                continue
            return data_key
    raise ModelError(f"{key.place} does not open it: it is sealed for another key, or was altered")


def _gcm(pkcs11: ModuleType, nonce: bytes) -> dict[str, object]:
    parameters = pkcs11.GCMParams(nonce, _PURPOSE, _TAG_BITS)
    return {"mechanism": pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}


@contextmanager
def _on_token(key: TokenKey) -> Iterator[tuple[ModuleType, Any]]:  # the library's keys mix their abilities in
    pkcs11 = _library()
    pin = None
    if key.pin is not None:
        secret = read_secret(key.pin, "the token's PIN")
        pin = secret.text.strip("\r\n")
        if not pin or not pin.isprintable():
            raise ModelError(f"{secret.place} holds no PIN, which is one line")
    try:
        with _token(pkcs11, key).open(user_pin=pin) as session:
            yield pkcs11, _key(pkcs11, session, key)
    except pkcs11.PKCS11Error as exc:
        # Without its cause: libraries may quote what they were given.
        raise ModelError(_explain(pkcs11, exc, key)) from None


def _token(pkcs11: ModuleType, key: TokenKey) -> Any:
    if not Path(key.module).is_file():
        raise ModelError(
            f"{key.module} is not there; module-path in {key.place}?… must be the PKCS#11 library of the "
            "token's vendor"
        )
    try:
        library = pkcs11.lib(key.module)
    except (pkcs11.PKCS11Error, RuntimeError):
        raise ModelError(
            f"{key.module} cannot be loaded as a PKCS#11 library; `pkcs11-tool --module {key.module} "
            "--list-slots` says more"
        ) from None
    serial = None if key.serial is None else key.serial.encode()
    tokens = list(library.get_tokens(token_label=key.token, token_serial=serial))
    if len(tokens) == 1:
        return tokens[0]
    labels = [token.label for token in library.get_tokens() if token.label]
    there = ", ".join(repr(label) for label in labels[:_TOKENS_SHOWN]) or "none"
    problem = "names more than one token; add token=LABEL or serial=" if tokens else "names no token"
    raise ModelError(f"{key.place} {problem}; in the slots of {key.module}: {there}")


def _key(pkcs11: ModuleType, session: Any, key: TokenKey) -> Any:
    names = pkcs11.Attribute
    wanted = {names.CLASS: pkcs11.ObjectClass.SECRET_KEY, names.KEY_TYPE: pkcs11.KeyType.AES}
    if key.label is not None:
        wanted[names.LABEL] = key.label
    if key.id is not None:
        wanted[names.ID] = key.id
    # Read to its end: the library complains of a search that is dropped.
    found = list(session.get_objects(wanted))
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"{key.place} names more than one key; add id=%…")
    tool = f"pkcs11-tool --module {key.module} --login"
    raise ModelError(
        f"{key.place} is not there, or not to be seen without the PIN (pin-source); `{tool} --list-objects` "
        f"shows what is, and `{tool} --keygen --key-type AES:32 --label {key.label or 'LABEL'}` makes one"
    )


def _explain(pkcs11: ModuleType, error: Exception, key: TokenKey) -> str:
    tool = f"pkcs11-tool --module {key.module}"
    where = key.pin or "pin-source, which is not given,"
    explanations = {
        pkcs11.PinIncorrect: f"refuses the PIN in {where}; after a few wrong ones it locks itself",
        pkcs11.PinLenRange: f"refuses the PIN in {where}, which is too short or too long",
        pkcs11.PinLocked: f"has locked its PIN after wrong ones; `{tool} --init-pin --login --so-pin …`",
        pkcs11.PinExpired: f"wants another PIN; `{tool} --change-pin`",
        pkcs11.UserPinNotInitialized: f"has no PIN yet; `{tool} --init-pin --login --so-pin …`",
        pkcs11.UserNotLoggedIn: "wants a PIN; add ?pin-source=FILE",
        pkcs11.MechanismInvalid: f"is on a token that does no AES-GCM; `{tool} --list-mechanisms`",
        pkcs11.FunctionNotSupported: f"is on a token that does no AES-GCM; `{tool} --list-mechanisms`",
        pkcs11.TokenNotPresent: "is on a token that was removed",
        pkcs11.DeviceRemoved: "is on a token that was removed",
    }
    known = next((text for kind, text in explanations.items() if isinstance(error, kind)), None)
    unknown = f"cannot be used ({type(error).__name__}); is it an AES key with CKA_ENCRYPT and CKA_DECRYPT?"
    return f"{key.place} {known or unknown}"


def _library() -> ModuleType:
    try:
        import pkcs11
    except ImportError as exc:
        raise ModelError(
            "keys on a PKCS#11 token need the extra: `pip install 'stream-server[pkcs11]'`"
        ) from exc
    module: ModuleType = pkcs11
    return module
