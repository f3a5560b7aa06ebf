"""The example of the page on LiteLLM is what the command makes."""

import pytest
import yaml
from tests.docs.markdown_blocks import Block, blocks

from narthex.importing.litellm import convert
from narthex.importing.litellm_servers import SERVERS

pytestmark = pytest.mark.patient

PAGE = "docs/howto/from-litellm.md"


@pytest.fixture
def theirs() -> Block:
    [block] = blocks("yml", page=PAGE)
    return block


def test_the_example_becomes_what_the_page_shows(theirs: Block) -> None:
    [ours] = blocks("yaml", page=PAGE)
    assert convert(theirs.text).text() == ours.text


def test_its_secret_is_nowhere_else(theirs: Block) -> None:
    [entry] = [row for row in yaml.safe_load(theirs.text)["model_list"] if "api_key" in row["litellm_params"]]
    assert entry["litellm_params"]["api_key"] not in convert(theirs.text).text()


def test_every_prefix_is_named() -> None:
    text = (blocks("yaml", page=PAGE)[0].page).read_text("utf-8")
    unnamed = {prefix for prefix in SERVERS if f"`{prefix}`" not in text}
    assert unnamed == {"azure_text", "custom_openai", "openai_like", "vllm"}
