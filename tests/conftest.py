"""Fixtures for every test."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `make interop`."""
    parser.addoption(
        "--through", choices=["openai-compatible"], help="test through a second server before the session's, so set up"
    )


@pytest.fixture
def anyio_backend() -> str:
    """We run on asyncio only."""
    return "asyncio"
