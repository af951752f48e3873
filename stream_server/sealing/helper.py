"""The key helper: a process that answers one question about one external key, and ends.

``python -m stream_server.sealing.helper LIMIT_S`` reads a request from its standard input and writes the
answer to its standard output; ``external`` starts it. It is the one process of a server that connects
anywhere, if the key is Vault's, and the one that loads a vendor's library, if it is on a token.
"""

import os
import resource
import signal
import sys
from typing import assert_never

import msgspec

from stream_server.errors import ModelError
from stream_server.sealing import tokens, vault
from stream_server.sealing.external import Answer, TokenKey, Unwrap, VaultKey, Wrap


def main() -> None:
    """Answer the one question on the standard input."""
    # Whoever asked may have been killed meanwhile; nobody else would end a call that hangs.
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A vendor's library may print: what it says must not be taken for the answer.
    answers = os.dup(1)
    os.dup2(2, 1)
    answer = answer_to(sys.stdin.buffer.read())
    with os.fdopen(answers, "wb") as out:
        out.write(msgspec.json.encode(answer))


def answer_to(content: bytes) -> Answer:
    """The answer to a request; whatever goes wrong is one too."""
    try:
        return Answer(result=_perform(msgspec.json.decode(content, type=Wrap | Unwrap)))
    except ModelError as exc:
        return Answer(problem=str(exc))
    except Exception as exc:
        # Its message could quote a token, a PIN or a key: only where it happened is told.
        last = exc.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        where = "" if last is None else f" ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})"
        return Answer(problem=f"the key helper failed with {type(exc).__name__}{where}; please report this")


def _perform(request: Wrap | Unwrap) -> bytes:
    match request.key:
        case VaultKey() as key:
            if isinstance(request, Wrap):
                return vault.wrap(key, request.data_key)
            return vault.unwrap(key, request.wrapped)
        case TokenKey() as key:
            if isinstance(request, Wrap):
                return tokens.wrap(key, request.data_key)
            return tokens.unwrap(key, request.wrapped)
        case _:
            assert_never(request.key)


if __name__ == "__main__":
    main()
