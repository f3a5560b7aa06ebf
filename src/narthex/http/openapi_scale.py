"""Scale's API in `/openapi.json`. Source: contract section 4."""

from narthex.dialects import scale_chat, scale_completions
from narthex.dialects.sampling import NOT_BUILT
from narthex.engine.local import capabilities as local
from narthex.http.openapi_answers import ERROR as OBJECT
from narthex.http.openapi_answers import LOGPROBS, STRING, Schema, closed, text_completion
from narthex.http.openapi_operation import MODEL_CALL, Operation, body_schema

ERROR = "ScaleError"

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v4/beta/chat/completions"): Operation(
        id="scaleChatCompletion",
        summary="Answer a conversation, as Scale's API does.",
        answer="ChatCompletion",
        events="ChatCompletionChunk",
        marked=False,
        error=ERROR,
        names_errors=True,
        body=body_schema(
            scale_chat.FIELDS | scale_chat.EXTENSIONS,
            scale_chat.REQUIRED,
            honoured=local.CHAT,
            dependent=NOT_BUILT,
            by_some=local.OF_THE_MODEL["chat"],
        ),
        asks_model=True,
        errors=MODEL_CALL,
    ),
    ("POST", "/v4/beta/completions"): Operation(
        id="scaleCompletion",
        summary="Continue a text, as Scale's API does.",
        answer="ScaleCompletion",
        events="ScaleCompletionChunk",
        marked=False,
        error=ERROR,
        names_errors=True,
        body=body_schema(
            scale_completions.FIELDS | scale_completions.EXTENSIONS,
            scale_completions.REQUIRED,
            honoured=local.COMPLETIONS,
            dependent=scale_completions.REFUSED,
            by_some=local.OF_THE_MODEL["completions"],
        ),
        asks_model=True,
        errors=MODEL_CALL,
    ),
}

SCHEMAS: dict[str, Schema] = {
    "ScaleCompletion": text_completion(LOGPROBS, open_ended=False),
    "ScaleCompletionChunk": text_completion(LOGPROBS, open_ended=True),
    ERROR: closed({"detail": STRING, "error": OBJECT}),
}
