"""What stands in a request's query."""

from urllib.parse import parse_qsl

from narthex.core.errors import InvalidRequest
from narthex.http.exchange import Exchange

_MOST_PARAMETERS = 100


def parameters(exchange: Exchange) -> list[tuple[str, str]]:
    """The names and values in the query, as they come.

    Raises:
        InvalidRequest: there are too many.
    """
    query = exchange.scope.get("query_string", b"").decode("latin-1")
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise InvalidRequest(f"The query has more than {_MOST_PARAMETERS} parameters.") from None
