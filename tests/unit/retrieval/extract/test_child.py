"""What the extractor says of parsers that fail."""

import pytest
from structlog.testing import capture_logs

from narthex.core.errors import InvalidRequest, UnsupportedMediaType
from narthex.retrieval.extract.child import _done
from narthex.retrieval.extract.protocol import Extraction


def test_what_a_parser_says_of_a_file_is_nobodys_business() -> None:
    def fail() -> Extraction:
        raise ValueError("in the file it says SECRET")

    with (
        capture_logs() as lines,
        pytest.raises(InvalidRequest, match=r"damaged, or too large .* \(ValueError\)") as caught,
    ):
        _done(fail)
    assert caught.value.__cause__ is None
    assert [line["error"] for line in lines] == ["ValueError"]
    assert "SECRET" not in str(lines)


@pytest.mark.parametrize("error", [InvalidRequest("a"), UnsupportedMediaType("b"), MemoryError(), RecursionError()])
def test_our_own_errors_and_those_of_limits_pass(error: Exception) -> None:
    def fail() -> Extraction:
        raise error

    with pytest.raises(type(error)):
        _done(fail)
