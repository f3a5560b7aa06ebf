"""The native API in `/openapi.json`. Source: contract section 3."""

from narthex.core.capabilities import State
from narthex.core.documents import RETRIEVALS
from narthex.dialects import thyris as chat
from narthex.dialects import thyris_documents as documents
from narthex.dialects.fields import Field
from narthex.http.openapi_answers import COUNT, INTEGER, STRING, Schema, closed, list_of, maybe, reference
from narthex.http.openapi_operation import MODEL_CALL, Operation, body_schema

ERROR = "NativeError"
_CHANGE = (403, 404, 409, 413, 415, 429, 502, 504, 507)
"""Statuses of what stores something, with the help of a model."""
_KEPT = (403, 404, 507)
_FOUND = (403, 404)


def _body(fields: dict[str, Field], required: tuple[str, ...]) -> Schema:
    return body_schema(fields, required, honoured=dict.fromkeys(fields, State.NATIVE))


def _chat(operation_id: str, summary: str) -> Operation:
    return Operation(
        id=operation_id,
        summary=summary,
        answer="NativeChat",
        events="NativeChatEvent",
        marked=False,
        error=ERROR,
        body=_body(chat.FIELDS, chat.REQUIRED),
        asks_model=True,
        errors=(*MODEL_CALL, 409),
    )


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/api/chat"): _chat("nativeChat", "Answer an input, over documents where a collection is named."),
    ("POST", "/api/text"): _chat("nativeText", "The same under an older name."),
    ("GET", "/api/models"): Operation(
        id="listNativeModels",
        summary="The models that this key may use, with what each takes.",
        answer="NativeModelList",
        errors=(403,),
    ),
    ("GET", "/api/collections"): Operation(
        id="listCollections", summary="The collections that this key may use.", answer="CollectionList", errors=(403,)
    ),
    ("GET", "/api/collections/{key}"): Operation(
        id="getCollection", summary="One collection.", answer="Collection", errors=_FOUND
    ),
    ("POST", "/api/collections/{key}"): Operation(
        id="createCollection",
        summary="Make a collection.",
        answer="CollectionMade",
        body=_body(documents.COLLECTION, documents.COLLECTION_REQUIRED),
        succeeds=(201,),
        errors=_CHANGE,
    ),
    ("PUT", "/api/collections/{key}"): Operation(
        id="putCollection",
        summary="Make a collection, or change what is said of the one there is. What is not sent stays.",
        answer="CollectionMade",
        body=_body(documents.COLLECTION, documents.COLLECTION_REQUIRED),
        succeeds=(200, 201),
        errors=_CHANGE,
    ),
    ("DELETE", "/api/collections/{key}"): Operation(
        id="deleteCollection", summary="Delete a collection with all that is in it.", succeeds=(204,), errors=_KEPT
    ),
    ("GET", "/api/collections/{key}/documents"): Operation(
        id="listDocuments", summary="The documents of a collection.", answer="DocumentList", errors=_FOUND
    ),
    ("GET", "/api/collections/{key}/documents/{document}"): Operation(
        id="getDocument",
        summary="One document, without its text unless that is asked for.",
        answer="StoredDocument",
        query={"content": "`true`: with the text, in whose code points citations count."},
        errors=_FOUND,
    ),
    ("POST", "/api/collections/{key}/documents/{document}"): Operation(
        id="addDocument",
        summary="Add a document.",
        answer="DocumentStored",
        body=_body(documents.DOCUMENT, documents.DOCUMENT_REQUIRED),
        succeeds=(201,),
        errors=_CHANGE,
    ),
    ("PUT", "/api/collections/{key}/documents/{document}"): Operation(
        id="putDocument",
        summary="Add a document, or replace it. What has the same text already is not embedded again.",
        answer="DocumentStored",
        body=_body(documents.DOCUMENT, documents.DOCUMENT_REQUIRED),
        succeeds=(200, 201),
        errors=_CHANGE,
    ),
    ("DELETE", "/api/collections/{key}/documents/{document}"): Operation(
        id="deleteDocument", summary="Delete a document with all that was made of it.", succeeds=(204,), errors=_KEPT
    ),
    ("POST", "/api/collections/{key}/search"): Operation(
        id="searchCollection",
        summary="The chunks that a chat would be given, without a chat.",
        answer="SearchAnswer",
        body=_body(documents.SEARCH, ()),
        errors=(*MODEL_CALL, 409),
    ),
}

_UUID: Schema = {"type": "string", "format": "uuid"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_SCORE = maybe({"type": "number"})
_SCORES = closed({"vector": _SCORE, "bm25": _SCORE, "fused": {"type": "number"}})
_COLLECTION = closed(
    {
        "id": _UUID,
        "key": STRING,
        "model": STRING,
        "description": STRING,
        "retrieval": {"enum": list(RETRIEVALS)},
        "weight": {"type": "number"},
    }
)
_DOCUMENT = {
    "id": _UUID,
    "key": STRING,
    "description": STRING,
    "mediaType": STRING,
    "name": maybe(STRING),
    "sha256": STRING,
    "characters": COUNT,
    "chunks": COUNT,
    "chunkSize": COUNT,
    "mode": {"enum": ["windows", "structure"]},
    "tokens": COUNT,
    "createdAt": _TIME,
}
_STORE = closed({"embeddingTokens": COUNT, "chunks": COUNT, "chunkSizeSum": COUNT, "duration": COUNT})
_STORE_USAGE = closed({"apiKeyID": _UUID, "embeddingModel": STRING, "documentStore": _STORE})
_CITATION = {
    "documentKey": STRING,
    "chunkIndex": COUNT,
    "start": COUNT,
    "end": COUNT,
    "page": maybe(INTEGER),
    "quote": STRING,
    "scores": _SCORES,
}
_LEFT = closed(
    {
        "documentKey": STRING,
        "chunkIndex": COUNT,
        "scores": _SCORES,
        "why": {"enum": ["rank", "per_document", "token_budget"]},
    }
)
_WHY_FOUND = {
    "retrieval": {"enum": list(RETRIEVALS)},
    "weight": {"type": "number"},
    "words": list_of(STRING),
    "left": list_of(_LEFT),
}
_INFERENCE = closed(
    dict.fromkeys(
        (
            "approxTextInputTokens", "approxImageInputTokens", "approxContextTokens", "approxSystemTokens",
            "inputTokens", "outputTokens", "duration",
        ),
        COUNT,
    )
)  # fmt: skip
_CHAT_USAGE = closed(
    {
        "apiKeyID": _UUID,
        "chatModel": STRING,
        "embeddingModel": maybe(STRING),
        "inference": _INFERENCE,
        "documentStore": maybe(_STORE),
    }
)
_CHAT = {
    "model": STRING,
    "created_at": _TIME,
    "sources": list_of(STRING),
    "usage": _CHAT_USAGE,
    "citations": list_of(closed({"number": COUNT} | _CITATION)),
    "warnings": list_of(STRING),
}
_WHY_GROUNDED = {
    "explain": closed(_WHY_FOUND | {"tokenBudget": maybe(COUNT), "contextTokens": COUNT, "context": STRING})
}
_MODEL = {"id": STRING, "object": {"const": "model"}, "created": INTEGER, "owned_by": STRING}
_VISION = closed({"formats": list_of(STRING), "maxBytes": COUNT, "maxWidth": COUNT, "maxHeight": COUNT})
_MODELS: Schema = {
    "oneOf": [
        closed(
            _MODEL
            | {
                "type": {"const": "chat"},
                "contextSize": maybe(COUNT),
                "maxInputCharacters": maybe(COUNT),
                "vision": maybe(_VISION),
            }
        ),
        closed(
            _MODEL
            | {"type": {"const": "embedding"}, "dimensions": maybe(COUNT), "maxChunkTokens": maybe(COUNT)}
            | dict.fromkeys(("maxDocumentSize", "maxChunkSize", "maxChunkCount"), COUNT)
        ),
        closed(_MODEL | {"type": {"enum": ["image", "speech"]}}),
    ]
}

SCHEMAS: dict[str, Schema] = {
    "NativeChat": closed(_CHAT | {"message": STRING}, _WHY_GROUNDED),
    "NativeChatEvent": {
        "oneOf": [closed({"message": STRING}), closed(_CHAT | {"done": {"const": True}}, _WHY_GROUNDED)]
    },
    "NativeModelList": closed({"object": {"const": "list"}, "data": list_of(_MODELS)}),
    ERROR: closed({"error": STRING}),
    "Collection": _COLLECTION,
    "CollectionList": closed({"collections": list_of(reference("Collection"))}),
    "CollectionMade": closed({"id": _UUID}),
    "StoredDocument": closed(_DOCUMENT, {"content": STRING}),
    "DocumentList": closed({"documents": list_of(closed(_DOCUMENT))}),
    "DocumentStored": closed(
        {"documentId": _UUID, "usage": _STORE_USAGE}, {"unchanged": {"const": True}, "warnings": list_of(STRING)}
    ),
    "SearchAnswer": closed(
        {
            "sources": list_of(STRING),
            "citations": list_of(closed(_CITATION)),
            "usage": _STORE_USAGE,
            "warnings": list_of(STRING),
        },
        {"explain": closed(_WHY_FOUND)},
    ),
}
