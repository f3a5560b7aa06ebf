"""Stored completions in `/openapi.json`. Source: contract section 1.5."""

from narthex.core.capabilities import State
from narthex.dialects import openai_stored
from narthex.dialects.sampling import METADATA
from narthex.http.openapi_answers import (
    CHAT_ANSWER,
    CHAT_CHOICE,
    CHAT_MESSAGE,
    FUNCTION,
    MAYBE_STRING,
    STRING,
    TOOL_CALL,
    Schema,
    closed,
    list_of,
    maybe,
    reference,
)
from narthex.http.openapi_operation import Operation, body_schema
from narthex.http.stored import SURFACE

_ONE = "/v1/chat/completions/{completion_id}"
_FOUND = (403, 404)
_QUERY = {name: field.schema for name, field in openai_stored.PARAMETERS.items()}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/v1/chat/completions"): Operation(
        id="listStoredCompletions",
        summary="Completions that this account has stored, by the time of their creation.",
        answer="StoredCompletionList",
        query=openai_stored.LISTING,
        query_schemas=_QUERY,
        grant=SURFACE,
        errors=_FOUND,
    ),
    ("GET", _ONE): Operation(
        id="getStoredCompletion", summary="One stored completion.", answer="StoredCompletion", errors=_FOUND
    ),
    ("POST", _ONE): Operation(
        id="updateStoredCompletion",
        summary="Replace the metadata of a stored completion.",
        answer="StoredCompletion",
        body=body_schema(
            openai_stored.UPDATE,
            openai_stored.UPDATE_REQUIRED,
            honoured=dict.fromkeys(openai_stored.UPDATE, State.NATIVE),
        ),
        errors=(*_FOUND, 413, 415, 507),
    ),
    ("DELETE", _ONE): Operation(
        id="deleteStoredCompletion",
        summary="Delete a stored completion.",
        answer="StoredCompletionDeleted",
        errors=(*_FOUND, 507),
    ),
    ("GET", f"{_ONE}/messages"): Operation(
        id="listStoredMessages",
        summary="The messages that a stored completion has answered.",
        answer="StoredMessageList",
        query=openai_stored.PAGING,
        query_schemas=_QUERY,
        errors=_FOUND,
    ),
}

_ANY: Schema = {}
_CALLS = {"tool_calls": maybe(list_of(TOOL_CALL)), "function_call": maybe(FUNCTION)}
_MESSAGE = CHAT_MESSAGE | {
    "properties": CHAT_MESSAGE["properties"] | _CALLS,
    "required": [*CHAT_MESSAGE["required"], *_CALLS],
}
_CHOICE = closed(CHAT_CHOICE["properties"] | {"message": _MESSAGE})
_ASKED = {
    "request_id": {"type": "string", "pattern": "^req_"},
    "tool_choice": _ANY,
    "seed": {"type": ["integer", "null"]},
    "top_p": {"type": "number"},
    "temperature": {"type": "number"},
    "presence_penalty": {"type": "number"},
    "frequency_penalty": {"type": "number"},
    "input_user": MAYBE_STRING,
    "tools": maybe(list_of({"type": "object"})),
    "metadata": METADATA.schema,
    "response_format": maybe({"type": "object"}),
}
_PART: Schema = {
    "oneOf": [
        closed({"type": {"const": "text"}, "text": STRING}),
        closed({"type": {"const": "image_url"}, "image_url": closed({"url": STRING, "detail": STRING})}),
    ]
}
_ITEM = closed(
    {
        "id": STRING,
        "role": STRING,
        "content": MAYBE_STRING,
        "refusal": MAYBE_STRING,
        "name": MAYBE_STRING,
        "content_parts": maybe(list_of(_PART)),
    },
    {"tool_calls": list_of({"type": "object"}), "function_call": FUNCTION, "tool_call_id": STRING},
)


def _page(schema: str) -> Schema:
    return closed(
        {
            "object": {"const": "list"},
            "data": list_of(reference(schema)),
            "first_id": MAYBE_STRING,
            "last_id": MAYBE_STRING,
            "has_more": {"type": "boolean"},
        }
    )


SCHEMAS: dict[str, Schema] = {
    "StoredCompletion": CHAT_ANSWER
    | {
        "properties": CHAT_ANSWER["properties"] | _ASKED | {"choices": list_of(_CHOICE)},
        "required": [*CHAT_ANSWER["required"], *_ASKED],
    },
    "StoredCompletionList": _page("StoredCompletion"),
    "StoredCompletionDeleted": closed(
        {"object": {"const": "chat.completion.deleted"}, "id": STRING, "deleted": {"const": True}}
    ),
    "StoredMessage": _ITEM,
    "StoredMessageList": _page("StoredMessage"),
}
