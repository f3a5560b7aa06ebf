"""Every deployment of one snapshot, by its `provider/model` name."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec

from narthex.app.shelf import Close, Holdings
from narthex.core.ports import Clocks, Deployment, Ensure, Grammars, Send, Templates
from narthex.engine.images.deployment import ImagesDeployment
from narthex.engine.images.draw import Painter
from narthex.engine.local.build import LocalEngines
from narthex.engine.served import ServedModel
from narthex.engine.speech.deployment import SpeechDeployment
from narthex.engine.speech.kokoro.calls import Kokoro
from narthex.engine.speech.kokoro.speaker import KokoroSpeaker
from narthex.engine.speech.speaker import Speaker
from narthex.engine.speech.spoken import Spoken
from narthex.engine.speech.spool import Shelf
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.providers.presets import PRESETS, codecs, request_headers
from narthex.providers.traits import ModelTraits
from narthex.retrieval.deployment import EmbedderDeployment
from narthex.retrieval.embed import Embedder
from narthex.routing.bounded import Bounded
from narthex.routing.by_schema import BySchema
from narthex.routing.fanout import fanned_out
from narthex.routing.validated import Validated
from narthex.storage.transcripts import Transcripts
from narthex.upstream.address import Address
from narthex.upstream.client import Clocks as HttpClocks
from narthex.upstream.client import UpstreamClient
from narthex.upstream.egress import Fetcher
from narthex.upstream.images import ImagesAsData, Whereabouts
from narthex.upstream.remote import RemoteDeployment


class Deployments:
    """Those here are taken at once, those elsewhere when first named. What they hold open is in `holdings`."""

    def __init__(
        self,
        settings: WorkerSettings,
        holdings: Holdings,
        *,
        templates: Templates,
        grammars: Grammars,
        ensure: Ensure,
        transcripts: Transcripts | None = None,
    ) -> None:
        self._settings = settings
        self._holdings = holdings
        self._templates = templates
        self._grammars = grammars
        self._ensure = ensure
        self._transcripts = transcripts
        self._speaker = None if settings.speech is None else Speaker(settings.speech)
        """Of chats: the last of those that speak here."""
        shelf = Shelf(Path(settings.data_dir))
        self._made: dict[tuple[str, float | None], Deployment] = {}
        for model in settings.models:
            if model.runs == "speech":
                self._speaker = self._speaking(model)
                speech = SpeechDeployment(self._speaker, name=model.name, shelf=shelf)
                self._made[speech.name, None] = speech
        for model in settings.models:
            if model.runs == "speech":
                continue
            key = ("local", _content(model), settings.share_prefix_cache)
            made = holdings.take(key, partial(self._local, model))
            self._made[made.name, None] = self._spoken(made)

    def find(self, name: str, connect_s: float | None = None) -> Deployment:
        """The deployment of a name that the plan has checked. `connect_s`: see `Rules`; means nothing to those here."""
        if (here := self._made.get((name, None))) is not None and name.startswith("local/"):
            return here
        if (name, connect_s) not in self._made:
            provider, _, model = name.partition("/")
            self._made[name, connect_s] = self._spoken(self._remote(provider, model, connect_s))
        return self._made[name, connect_s]

    def _spoken(self, deployment: Deployment) -> Deployment:
        """With a voice, if it chats and there is one here."""
        if self._speaker is None or self._transcripts is None or deployment.capabilities("chat") is None:
            return deployment
        return Spoken(deployment, self._speaker, self._transcripts)

    # --- here

    def _speaking(self, model: ServedModel) -> Speaker | None:
        """What speaks as this model; None: nothing here can."""
        if self._settings.speech is None or not model.child:
            return self._speaker

        def connected() -> tuple[Kokoro, Close]:
            kokoro = Kokoro(Path(model.socket))
            return kokoro, kokoro.aclose

        kokoro = self._holdings.take(("speech", model.socket), connected)
        return KokoroSpeaker(self._settings.speech, kokoro, child=model.child, ensure=self._ensure)

    def _local(self, model: ServedModel) -> tuple[Deployment, Close]:
        stack = AsyncExitStack()
        if model.runs == "embedder":
            embedder = Embedder(Path(model.socket), model.name)
            stack.push_async_callback(embedder.aclose)
            made: Deployment = EmbedderDeployment(model.name, embedder, child=model.child, ensure=self._ensure)
            return made, stack.aclose
        if model.runs == "images":
            painter = Painter(Path(model.socket), model.name)
            stack.push_async_callback(painter.aclose)
            return ImagesDeployment(model.name, painter, child=model.child, ensure=self._ensure), stack.aclose

        def connect(address: str) -> Send:
            client = UpstreamClient(Address.parse(address))
            stack.push_async_callback(client.aclose)
            return client.send

        engines = LocalEngines(
            self._templates,
            grammars=self._grammars,
            connect=connect,
            ensure=self._ensure,
            share_prefix_cache=self._settings.share_prefix_cache,
        )
        stack.push_async_callback(engines.aclose)
        return engines.add(model), stack.aclose

    # --- elsewhere

    def _remote(self, provider: str, model: str, connect_s: float | None) -> Deployment:
        row = self._settings.providers[provider]
        preset = PRESETS[row.type]

        def connected() -> tuple[UpstreamClient, Close]:
            client = _client(row.base_url, request_headers(preset, row.api_key))
            return client, client.aclose

        client = self._holdings.take(("provider", provider, _content(row)), connected)
        traits = _traits(row, model)
        remote = RemoteDeployment(
            provider,
            model,
            codecs={**codecs(preset, traits)},
            send=partial(client.send, clocks=_http_clocks(connect_s, row.idle_s)),
            clocks=Clocks(first_token_s=row.first_token_s, idle_s=row.idle_s),
        )
        one = fanned_out(BySchema(remote, refused=traits.refused))
        return Bounded(self._without_fetching(Validated(one, self._grammars), row))

    def _without_fetching(self, deployment: Deployment, row: RemoteProvider) -> Deployment:
        """See docs/design/egress.md."""
        egress = self._settings.egress

        def made() -> tuple[Fetcher, Close]:
            fetcher = Fetcher(egress)
            return fetcher, fetcher.aclose

        fetcher = self._holdings.take(("egress", _content(egress)), made)
        fetches = PRESETS[row.type].fetches_images
        whereabouts = Whereabouts(Address.parse(row.base_url), fetcher) if fetches else None
        return ImagesAsData(deployment, fetcher, whereabouts=whereabouts)


def _traits(row: RemoteProvider, model: str) -> ModelTraits:
    """What one of a provider's models can do, and what may be added to requests for it."""
    traits = row.models.get(model) or PRESETS[row.type].traits_of(model)
    params, headers = traits.extra_params, traits.extra_headers
    return msgspec.structs.replace(
        traits,
        extra_params=row.extra_params if params is None else params,
        extra_headers=row.extra_headers if headers is None else headers,
    )


def _client(address: str, headers: Mapping[str, str]) -> UpstreamClient:
    return UpstreamClient(Address.parse(address), headers=headers)


def _http_clocks(connect_s: float | None, idle_s: float | None) -> HttpClocks:
    """Of an answer that comes whole no frame is seen before its end: the bytes themselves must keep coming."""
    clocks = HttpClocks(idle_s=idle_s)
    return clocks if connect_s is None else msgspec.structs.replace(clocks, connect_s=connect_s)


def _content(row: msgspec.Struct) -> bytes:
    """By which equal rows are known."""
    return msgspec.json.encode(row, order="deterministic")
