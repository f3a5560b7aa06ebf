"""A query's rows, all at once: an open cursor would hold its view of the file."""

from typing import Any

import apsw


def fetched(connection: apsw.Connection, query: str, *values: Any) -> list[Any]:
    """All rows of a query. What the columns are is for the caller to know."""
    return connection.execute(query, values).fetchall()
