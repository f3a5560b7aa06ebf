"""The embedded models, fetched once by the product's own code and kept in `.cache/models` between runs."""

from pathlib import Path

import pytest

from narthex.engine.models.catalogue import CATALOGUE
from narthex.engine.models.pull import pull

CACHE = Path(__file__).parents[1] / ".cache" / "models"


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """A store's folder with every model of the catalogue. Read only: a test that spoils a file copies it first."""
    for row in CATALOGUE.values():
        pull(row, CACHE)
    return CACHE
