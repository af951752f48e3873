"""OpenAI's table, as the installed package has it."""

import re

from stream_server.models.official import official_by_sha256, official_models


def test_every_model_has_an_address_a_checksum_and_heads() -> None:
    for model in official_models().values():
        assert model.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", model.sha256)
        assert model.url.endswith(f"/{model.sha256}/{model.name}.pt")
        assert model.alignment_heads.startswith("ABzY8")


def test_other_names_of_a_model_lead_to_its_own() -> None:
    found = official_models()
    assert found["turbo"] == found["large-v3-turbo"]
    assert (found["turbo"].name, found["large"].name) == ("large-v3-turbo", "large-v3")


def test_a_model_is_known_by_its_checksum() -> None:
    tiny = official_models()["tiny"]
    assert official_by_sha256(tiny.sha256) == tiny
    assert official_by_sha256("0" * 64) is None
