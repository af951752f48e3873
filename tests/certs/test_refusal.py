"""Words and tokens for refusals that the handshake tests cannot easily provoke."""

import ssl

import pytest

from certs.refusal import REFUSAL_REASONS, explain_refusal, refusal_reason


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def verify_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "token"),
    [
        (verify_error(2), "unknown_ca"),
        (verify_error(7), "bad_signature"),
        (verify_error(8), "crl_invalid"),
        (verify_error(11), "crl_invalid"),
        (verify_error(999), "other"),
        (tls_error("BAD_SIGNATURE"), "bad_signature"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_UNKNOWN"), "server_not_trusted"),
        (tls_error("SOMETHING_NEW"), "other"),
        (ConnectionResetError(), "reset"),
        (BrokenPipeError(), "reset"),
        (EOFError(), "reset"),
        (TimeoutError(), "timeout"),
        (ConnectionAbortedError("SSL handshake is taking longer than 5 seconds"), "timeout"),
        (ConnectionAbortedError(103, "aborted"), "reset"),
        (ValueError(), "other"),
        (caused(RuntimeError(), verify_error(23)), "revoked"),
    ],
)
def test_the_server_has_a_token_for_every_failure(error: BaseException, token: str) -> None:
    assert refusal_reason(error) == token
    assert token in REFUSAL_REASONS


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (verify_error(9), "not valid yet"),
        (verify_error(26), "not one for servers"),
        (verify_error(999), "verification error 999"),
        (tls_error("TLSV1_ALERT_DECRYPT_ERROR"), "private key"),
        (tls_error("TLSV1_ALERT_ACCESS_DENIED"), "ask the operator for access"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_UNKNOWN"), "does not tell"),
        (tls_error("WRONG_VERSION_NUMBER"), "does not speak TLS"),
    ],
)
def test_a_refusal_is_one_sentence_that_says_what_to_do(error: BaseException, words: str) -> None:
    sentence = explain_refusal(caused(RuntimeError("wrapped by a library"), error))
    assert sentence is not None
    assert words in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_a_refusal_is_found_in_the_context_of_an_error() -> None:
    outer = RuntimeError()
    outer.__context__ = tls_error("SSLV3_ALERT_CERTIFICATE_REVOKED")
    assert "revoked" in (explain_refusal(outer) or "")


def test_what_is_no_refusal_is_not_explained() -> None:
    for error in (EOFError(), ConnectionResetError(), ValueError(), tls_error("INTERNAL_ERROR")):
        assert explain_refusal(error) is None


def test_a_circle_of_causes_ends() -> None:
    first, second = RuntimeError(), RuntimeError()
    first.__context__, second.__context__ = second, first
    assert explain_refusal(first) is None
    assert refusal_reason(first) == "other"
