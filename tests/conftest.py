"""Fixtures for every test."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """We run on asyncio only."""
    return "asyncio"
