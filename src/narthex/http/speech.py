"""The endpoint of `/v1/audio/speech`: a surface whose answers are sounds.

Rule: a sound has no place for an error, so one that breaks off ends with the connection, and never as if it were whole.
"""

from typing_extensions import override

from narthex.core.ports import Call
from narthex.core.speech import MEDIA, SpeechRequest
from narthex.http.asgi import Headers
from narthex.http.surface import STREAM_HEADERS, ModelSurface


class SpeechSurface(ModelSurface):
    """See `ModelSurface`."""

    @override
    def _head(self, call: Call) -> Headers:
        request = call.request
        assert isinstance(request, SpeechRequest)  # noqa: S101 - the dialect decides the type
        if request.sse:
            return STREAM_HEADERS
        return [(b"content-type", MEDIA[request.response_format].encode()), *STREAM_HEADERS[1:]]

    @override
    def _pings(self, call: Call) -> bool:
        return isinstance(call.request, SpeechRequest) and call.request.sse
