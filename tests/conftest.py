"""Fixtures for every test."""

import hypothesis
import pytest

# How long an example takes tells of the machine's neighbours.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `make interop`."""
    chains = ["local", "narthex", "openai-compatible", "litellm-openai", "litellm-anthropic"]
    parser.addoption("--through", choices=chains, help="test through what tests/interop/chains.py has by this name")
    parser.addoption("--figures", help="where to write what came of it, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Only where it is asked for."""
    if config.getoption("--through") is not None:
        config.pluginmanager.import_plugin("tests.interop.plugin")


@pytest.fixture
def anyio_backend() -> str:
    """We run on asyncio only."""
    return "asyncio"
