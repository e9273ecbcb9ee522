"""The fixture that the tests of musl share."""

import pytest
from musl.muslstore import Musl
from support.store import Store


@pytest.fixture
def musl(store: Store) -> Musl:
    return Musl.create(store)
