"""What answers look like, as JSON Schema. Source: contract sections 1.3, 1.4, 1.6 to 1.9, 5.7, 8.2.

The tests hold every answer of a running server against these.
"""

from typing import Any

from narthex.core.capabilities import State

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MAYBE_STRING: Schema = {"type": ["string", "null"]}
_UNIX_S: Schema = {"type": "integer", "description": "Unix seconds."}


def reference(name: str) -> Schema:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(required: Schema, optional: Schema | None = None) -> Schema:
    """An object of these members and no others."""
    properties = required | (optional or {})
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def maybe(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(schema: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": schema}


def _finish(*reasons: str, open_ended: bool = False) -> Schema:
    return {"enum": [*reasons, None] if open_ended else list(reasons)}


_CHAT_REASONS = ("stop", "length", "tool_calls", "content_filter", "function_call")
_TEXT_REASONS = ("stop", "length", "content_filter")
FUNCTION = closed({"name": STRING, "arguments": {"type": "string", "description": "JSON text."}})
TOOL_CALL = closed({"id": STRING, "type": {"const": "function"}, "function": FUNCTION})
_TOKEN = closed({"token": STRING, "logprob": {"type": "number"}, "bytes": maybe(list_of(COUNT))})
_CHOSEN_TOKEN = closed(_TOKEN["properties"] | {"top_logprobs": list_of(_TOKEN)})
LOGPROBS = maybe(closed({"content": maybe(list_of(_CHOSEN_TOKEN)), "refusal": maybe(list_of(_CHOSEN_TOKEN))}))
_TEXT_LOGPROBS = maybe(
    closed(
        {
            "tokens": list_of(STRING),
            "token_logprobs": list_of({"type": ["number", "null"]}),
            "top_logprobs": maybe(list_of(maybe({"type": "object", "additionalProperties": {"type": "number"}}))),
            "text_offset": list_of(COUNT),
        }
    )
)
_AUDIO = {"id": STRING, "data": STRING, "expires_at": _UNIX_S, "transcript": STRING}
CHAT_MESSAGE = closed(
    {
        "role": {"const": "assistant"},
        "content": MAYBE_STRING,
        "refusal": MAYBE_STRING,
        "annotations": list_of({"type": "object"}),
    },
    {
        "reasoning_content": STRING,
        "tool_calls": list_of(TOOL_CALL) | {"minItems": 1},
        "function_call": FUNCTION,
        "audio": closed(_AUDIO),
    },
)
_TOOL_CALL_DELTA = closed(
    {"index": COUNT, "function": closed({"arguments": STRING}, {"name": STRING})},
    {"id": STRING, "type": {"const": "function"}},
)
_DELTA = closed(
    {},
    {
        "role": {"const": "assistant"},
        "content": MAYBE_STRING,
        "refusal": MAYBE_STRING,
        "reasoning_content": STRING,
        "tool_calls": list_of(_TOOL_CALL_DELTA),
        "function_call": closed({}, {"name": STRING, "arguments": STRING}),
        "audio": closed({}, _AUDIO),
    },
)
_USAGE = closed(
    {
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "total_tokens": COUNT,
        "prompt_tokens_details": closed({"cached_tokens": COUNT, "audio_tokens": COUNT}),
        "completion_tokens_details": closed(
            {
                "reasoning_tokens": COUNT,
                "audio_tokens": COUNT,
                "accepted_prediction_tokens": COUNT,
                "rejected_prediction_tokens": COUNT,
            }
        ),
    }
)
_TIER: Schema = {"type": "string", "description": "The tier that was used; only where the request named one."}
_FINGERPRINT = {"system_fingerprint": MAYBE_STRING}


def _head(kind: str, prefix: str) -> Schema:
    identity = {"type": "string", "pattern": f"^{prefix}-"}
    return {"id": identity, "object": {"const": kind}, "created": _UNIX_S, "model": STRING}


def text_completion(logprobs: Schema, *, open_ended: bool) -> Schema:
    """One, or a chunk of it. `logprobs`: of a choice."""
    finish = _finish(*_TEXT_REASONS, open_ended=open_ended)
    choice = closed({"text": STRING, "index": COUNT, "logprobs": logprobs, "finish_reason": finish})
    required = _head("text_completion", "cmpl") | {"choices": list_of(choice)} | _FINGERPRINT
    if open_ended:
        return closed(required, {"usage": maybe(reference("Usage"))})
    return closed(required | {"usage": reference("Usage")})


MODEL = closed({"id": STRING, "object": {"const": "model"}, "created": _UNIX_S, "owned_by": STRING})
_FATE = closed(
    {"state": {"enum": [state.value for state in State]}},
    {"limits": {"type": "string", "description": "Which values are honoured, or pass all the same."}},
)
_SURFACES: Schema = {
    "type": "object",
    "description": "By surface and field.",
    "additionalProperties": {"type": "object", "additionalProperties": _FATE},
}
_CAPABILITIES = closed(
    {
        "id": STRING,
        "object": {"const": "model.capabilities"},
        "deployments": list_of(closed({"name": STRING, "surfaces": _SURFACES})),
    }
)
ERROR = closed(
    {
        "message": STRING,
        "type": STRING,
        "param": MAYBE_STRING | {"description": "Path of the field at fault."},
        "code": MAYBE_STRING,
    }
)
_UNAUTHORIZED = closed(
    {"httpStatus": {"const": 401}, "messages": list_of(closed({"errorCode": STRING, "message": STRING}))}
)
CHAT_CHOICE = closed(
    {"index": COUNT, "message": CHAT_MESSAGE, "logprobs": LOGPROBS, "finish_reason": _finish(*_CHAT_REASONS)}
)
_CHUNK_CHOICE = closed(
    {"index": COUNT, "delta": _DELTA, "finish_reason": _finish(*_CHAT_REASONS, open_ended=True)},
    {"logprobs": LOGPROBS},
)
_VECTOR: Schema = {
    "anyOf": [
        list_of({"type": "number"}),
        {"type": "string", "contentEncoding": "base64", "description": "Little-endian float32 values."},
    ]
}
_IMAGE_TRAITS = {"size": STRING, "quality": STRING, "background": STRING, "output_format": STRING}
_PARTS_OF_TOKENS = closed({"text_tokens": COUNT, "image_tokens": COUNT})
_IMAGES_USED = {
    "input_tokens": COUNT,
    "output_tokens": COUNT,
    "total_tokens": COUNT,
    "input_tokens_details": _PARTS_OF_TOKENS,
}
_BASE64: Schema = {"type": "string", "contentEncoding": "base64"}


def _image_event(name: str, more: Schema) -> Schema:
    return closed({"type": {"const": name}, "b64_json": _BASE64, "created_at": _UNIX_S} | _IMAGE_TRAITS | more)


CHAT_ANSWER = closed(
    _head("chat.completion", "chatcmpl")
    | {"choices": list_of(CHAT_CHOICE), "usage": reference("Usage")}
    | _FINGERPRINT,
    {"service_tier": _TIER},
)

_SPEECH_USED = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), COUNT)

SCHEMAS: dict[str, Schema] = {
    "Usage": _USAGE,
    "ChatCompletion": CHAT_ANSWER,
    "ChatCompletionChunk": closed(
        _head("chat.completion.chunk", "chatcmpl") | {"choices": list_of(_CHUNK_CHOICE)},
        {"usage": maybe(reference("Usage")), "service_tier": _TIER} | _FINGERPRINT,
    ),
    "Completion": text_completion(_TEXT_LOGPROBS, open_ended=False),
    "CompletionChunk": text_completion(_TEXT_LOGPROBS, open_ended=True),
    "EmbeddingList": closed(
        {
            "object": {"const": "list"},
            "data": list_of(closed({"object": {"const": "embedding"}, "index": COUNT, "embedding": _VECTOR})),
            "model": STRING,
            "usage": closed({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        }
    ),
    "ImageList": closed(
        {
            "created": _UNIX_S,
            "data": list_of(closed({}, {"b64_json": _BASE64, "url": STRING, "revised_prompt": STRING})),
        },
        _IMAGE_TRAITS | {"usage": closed(_IMAGES_USED | {"output_tokens_details": _PARTS_OF_TOKENS})},
    ),
    "ImageEvent": {
        "oneOf": [
            _image_event("image_generation.partial_image", {"partial_image_index": COUNT}),
            _image_event("image_generation.completed", {"usage": closed(_IMAGES_USED)}),
        ]
    },
    "SpeechEvent": {
        "oneOf": [
            closed({"type": {"const": "speech.audio.delta"}, "audio": STRING}),
            closed({"type": {"const": "speech.audio.done"}, "usage": closed(_SPEECH_USED)}),
        ]
    },
    "Model": MODEL,
    "ModelList": closed({"object": {"const": "list"}, "data": list_of(reference("Model"))}),
    "ModelDeleted": closed({"id": STRING, "object": {"const": "model"}, "deleted": {"const": True}}),
    "CapabilityList": closed({"object": {"const": "list"}, "data": list_of(reference("ModelCapabilities"))}),
    "ModelCapabilities": _CAPABILITIES,
    "Reload": closed({"object": {"const": "reload"}, "changed": list_of(STRING), "needs_restart": list_of(STRING)}),
    "Alive": closed({"status": {"const": "ok"}}),
    "Readiness": closed(
        {"status": {"enum": ["ready", "unready"]}, "checks": {"type": "object", "additionalProperties": STRING}}
    ),
    "Error": closed({"error": ERROR}),
    "Unauthorized": {"anyOf": [reference("Error"), _UNAUTHORIZED]},
}
