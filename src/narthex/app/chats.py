"""The routes of chats, and of what was stored of them."""

from narthex.http.routes import Endpoint, Route
from narthex.http.stored import ID, SURFACE, StoredEndpoints

CHATS = "/v1/chat/completions"


def stored_routes(chat: Endpoint, stored: StoredEndpoints) -> list[Route]:
    """`chat` answers; the rest is about answers that were stored."""
    one = f"{CHATS}/{{{ID}}}"
    return [
        Route(path=CHATS, endpoints={"POST": chat, "GET": stored.list}, surface="chat"),
        Route(
            path=one,
            endpoints={"GET": stored.retrieve, "POST": stored.update, "DELETE": stored.delete},
            surface=SURFACE,
            segments=True,
        ),
        Route(path=f"{one}/messages", endpoints={"GET": stored.messages}, surface=SURFACE, segments=True),
    ]
