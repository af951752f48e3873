"""An authority of these tests' own, which they may revoke from and add to."""

import pytest
from pki import ClientPair, Pki, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def client(pki: Pki) -> ClientPair:
    return pki.client()
