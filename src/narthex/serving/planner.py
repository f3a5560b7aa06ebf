"""From settings to processes: which models there are, which engine each needs, and the supervisor's plan."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from narthex import __version__
from narthex.core.errors import ConfigError
from narthex.engine import sizing
from narthex.engine.images import layout
from narthex.engine.images.draw import ImagesSettings
from narthex.engine.llama import EngineSettings
from narthex.engine.models.catalogue import CATALOGUE
from narthex.engine.models.manifest import Manifest
from narthex.engine.models.source import FileSource, parse
from narthex.engine.models.store import ModelStore
from narthex.engine.prediction.protocol import PredictionSettings
from narthex.engine.served import ServedModel
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.jobs.waking import NAME as BACKGROUND
from narthex.providers.presets import PRESETS
from narthex.retrieval.embed import EmbedderSettings
from narthex.retrieval.extract.protocol import NAME as EXTRACTOR
from narthex.retrieval.extract.protocol import ExtractorSettings
from narthex.routing.route import Named, Rules
from narthex.sandbox.protocol import COMPILER, SandboxSettings
from narthex.sandbox.protocol import NAME as SANDBOX
from narthex.serving import files
from narthex.serving.facets import facets
from narthex.serving.machine import Machine
from narthex.serving.speech import kokoro, speech_engine, speech_model
from narthex.settings import ImageModel, LocalModel, Provider, PublicModel, Settings
from narthex.supervisor.plan import ChildSpec, Plan, Stamp, control_socket
from narthex.upstream.egress import Egress

SCHEMA = 1
"""Of the data folder; grows whenever an older program could no longer read it."""

SPARE_SLOTS = 2
"""Slots beyond the others, for keys that hold none: whoever fills the rest keeps nobody else waiting."""


LEAST_ROOM_BYTES = 256 * 1024 * 1024
"""For making images, however little the weights leave."""


class Planner:
    """Makes the plan of one server."""

    def __init__(self, settings: Settings, *, data: Path, run_dir: Path, machine: Machine) -> None:
        self._settings = settings
        self._data = data
        self._run_dir = run_dir
        self._machine = machine
        self._store = ModelStore(data / "models")
        self._speech = speech_engine(settings.speech, machine)
        self._children: list[ChildSpec] = []

    def plan(self) -> Plan:
        """The plan.

        Raises:
            ConfigError: a public name points to a model that isn't there.
        """
        settings = self._settings
        models = tuple(self._models())
        names = {row.name: _named(row) for row in settings.models}
        self._check_names(names, {model.name for model in models})
        for child, module in ((SANDBOX, "narthex.sandbox"), (COMPILER, "narthex.sandbox.compiler")):
            self._child(child, module, SandboxSettings(socket=str(self._run_dir / f"{child}.sock")), start="on_demand")
        self._child(EXTRACTOR, "narthex.retrieval.extract.child", self._extractor(), start="on_demand")
        self._child(BACKGROUND, "narthex.app.background", self._worker(BACKGROUND, models, names), start="on_demand")
        for number in range(settings.workers):
            worker = self._worker(f"worker-{number}", models, names)
            self._child(worker.name, "narthex.app", worker, listener=True, stop_timeout_s=settings.http.drain_s + 10)
        return Plan(
            data_dir=str(self._data),
            run_dir=str(self._run_dir),
            version=Stamp(schema=SCHEMA, program=__version__),
            children=self._children,
            host=settings.host,
            port=settings.port,
            scheme="https" if settings.http.tls else "http",
            drain_timeout_s=settings.http.drain_s,
            memory_budget_bytes=self._memory_bytes(),
            log_format=settings.log.format,
            facets=facets(settings, models),
        )

    def _worker(self, name: str, models: tuple[ServedModel, ...], names: dict[str, Named]) -> WorkerSettings:
        http = self._settings.http
        hosts = ("*",) if self._settings.host in {"0.0.0.0", "::"} else (*http.allowed_hosts, self._settings.host)  # noqa: S104 - compared, not bound
        return WorkerSettings(
            name=name,
            data_dir=str(self._data),
            run_dir=str(self._run_dir),
            control_socket=str(control_socket(self._run_dir, name)),
            models=models,
            names=names,
            providers={name: _remote(row) for name, row in self._settings.providers.items()},
            egress=_egress(self._settings),
            speech=self._speech,
            speech_kept_s=self._settings.speech.kept_s,
            allowed_hosts=hosts,
            trusted_proxies=http.trusted_proxies,
            body_limit_bytes=http.body_limit_bytes,
            upload_limit_bytes=http.upload_limit_bytes,
            stored_kept_s=self._settings.stored.kept_days * 86_400,
            stored_max_bytes=self._settings.stored.max_bytes,
            total_s=http.total_s,
            drain_s=http.drain_s,
            profile=http.profile,
            lenient=http.lenient,
            share_prefix_cache=self._settings.engine.share_prefix_cache,
            tls_cert=str(http.tls.cert) if http.tls else None,
            tls_key=str(http.tls.key) if http.tls else None,
            log_format=self._settings.log.format,
        )

    def _extractor(self) -> ExtractorSettings:
        files = self._settings.files
        return ExtractorSettings(
            socket=str(self._run_dir / f"{EXTRACTOR}.sock"),
            log_format=self._settings.log.format,
            time_limit_s=files.time_limit_s,
            memory_limit_bytes=files.memory_limit_bytes,
            max_characters=files.max_characters,
        )

    # --- models ------------------------------------------------------------------------------------------------------

    def _models(self) -> Iterator[ServedModel]:
        configured = self._settings.engine.models
        for found in self._store.installed():
            if not self._is_elsewhere(found.name):
                yield self._installed(found, configured.get(found.name, LocalModel()))
        for name, row in configured.items():
            if row.url is not None:
                yield ServedModel(
                    name=name, kind="chat", runs="url", url=row.url, slots=row.slots, window=row.context or 0
                )
            elif row.source is not None and not self._is_installed(name):
                yield self._from_source(name, row)
        for name, image_row in self._settings.engine.images.items():
            if image_row.source is not None:
                yield self._painter(name, self._folder(image_row.source), image_row)
        yield from self._speakers()

    def _is_elsewhere(self, name: str) -> bool:
        """Whether the settings give an installed model's name to another."""
        row, image_row = self._settings.engine.models.get(name), self._settings.engine.images.get(name)
        return (row is not None and row.url is not None) or (image_row is not None and image_row.source is not None)

    def _folder(self, source: str) -> Path:
        """Of a pipeline: the operator's own, or one that was pulled by its source."""
        if source.startswith("hf:"):
            return self._store.resolve(source).path
        return Path(source).expanduser().absolute()

    def _is_installed(self, name: str) -> bool:
        return any(found.name == name for found in self._store.installed())

    def _installed(self, found: Manifest, row: LocalModel) -> ServedModel:
        file = self._data / "models" / found.name / found.files[0].path
        common: dict[str, Any] = {
            "digest": found.digest,
            "created": found.files[0].mtime_ns // 10**9,
            "removable": found.name not in CATALOGUE,
        }
        if found.kind == "image":
            part = self._settings.engine.images.get(found.name, ImageModel())
            return self._painter(found.name, self._data / "models" / found.name, part, **common)
        if file.suffix.lower() == ".gguf":
            return self._engine(found.name, file, row, **common)
        return self._embedder(found.name, file.parent, **common)

    def _from_source(self, name: str, row: LocalModel) -> ServedModel:
        """A model that only the configuration knows: a file of the operator's, or one that was pulled by its source."""
        source = parse(str(row.source))
        path = source.path if isinstance(source, FileSource) else self._store.resolve(str(row.source)).path
        return self._engine(name, path, row, created=int(path.stat().st_mtime))

    def _embedder(self, name: str, folder: Path, **common: Any) -> ServedModel:
        child, socket = f"embedder/{name}", self._run_dir / f"embedder-{name}.sock"
        threads = self._settings.embedder.threads
        self._child(
            child,
            "narthex.retrieval.embedder",
            EmbedderSettings(name=name, model_dir=str(folder), socket=str(socket), threads=threads),
            start="always" if name == self._settings.embedder.default else "on_demand",
        )
        shape = files.shape(folder)
        return ServedModel(
            name=name,
            kind="embedding",
            runs="embedder",
            child=child,
            socket=str(socket),
            path=str(folder),
            window=shape.max_tokens if shape else 0,
            dim=shape.hidden if shape else 0,
            **common,
        )

    def _engine(self, name: str, file: Path, row: LocalModel, **common: Any) -> ServedModel:
        """A llama.cpp child for one GGUF file. A damaged file is planned too: whoever asks for it is told."""
        part, child = self._settings.engine, f"engine/{name}"
        socket, control = self._run_dir / f"engine-{name}.sock", control_socket(self._run_dir, child)
        header = files.header(file)
        embedding = header is not None and header.pooling_type is not None
        size = sizing.size(
            kv_bytes_per_token=header.kv_bytes_per_token if header else 0,
            context_length=(header.context_length if header else None) or 4096,
            memory_bytes=self._machine.memory_bytes,
            cores=self._machine.cores,
            overrides=sizing.Overrides(
                slots=part.slots,
                window=row.context or part.context,
                batch=part.batch,
                threads=row.threads or part.threads,
            ),
        )
        keeps = name == part.default
        engine = EngineSettings(
            name=name,
            model_path=str(file),
            socket=str(socket),
            control_socket=str(control),
            slots=size.slots + (0 if embedding else SPARE_SLOTS),  # beyond 16, llama.cpp aborts on embedding models
            spare_slots=SPARE_SLOTS,
            cells=size.cells,
            window=size.window,
            cache_cells=part.cache_tokens,
            share_prefix_cache=part.share_prefix_cache,
            batch=size.batch,
            threads=size.threads,
            gpu_layers=row.gpu_layers,
            idle_unload_s=None if keeps else part.idle_unload_s,
            max_waiting=part.max_waiting,
            max_waiting_per_key=part.max_waiting_per_key,
            embedding=embedding,
            deterministic=part.deterministic,
        )
        self._child(
            child,
            "narthex.engine.child",
            engine,
            start="always" if keeps else "on_demand",
            group="engines",
            memory_bytes=files.size(file) + size.cache_bytes,
            start_timeout_s=120,
        )
        served = ServedModel(
            name=name,
            kind="embedding" if embedding else "chat",
            runs="engine",
            child=child,
            socket=str(socket),
            control_socket=str(control),
            path=str(file),
            window=size.window,
            heeds=files.heeds(header) if header else frozenset(),
            **common,
        )
        return served if embedding or not part.predictions else self._checked(served, engine, size.cache_bytes)

    def _checked(self, served: ServedModel, engine: EngineSettings, cache_bytes: int) -> ServedModel:
        """With a child that checks predictions with the same model."""
        child = f"prediction/{served.name}"
        socket = str(control_socket(self._run_dir, child))
        self._child(
            child,
            "narthex.engine.prediction.child",
            PredictionSettings.beside(engine, socket=socket, log_format=self._settings.log.format),
            start="on_demand",
            group="engines",
            memory_bytes=files.size(Path(engine.model_path)) + cache_bytes * engine.window // engine.cells,
        )
        return msgspec.structs.replace(served, prediction_child=child, prediction_socket=socket)

    def _painter(self, name: str, folder: Path, row: ImageModel, **common: Any) -> ServedModel:
        """A child that makes images. A damaged pipeline is planned too: whoever asks for it is told."""
        child = f"images/{name}"
        socket = control_socket(self._run_dir, child)
        part = self._settings.engine
        weights_bytes = layout.weights_bytes(folder)
        left_bytes = self._memory_bytes() - weights_bytes
        room_bytes = row.memory_bytes or max(LEAST_ROOM_BYTES, min(self._machine.memory_bytes // 4, left_bytes))
        self._child(
            child,
            "narthex.engine.images.child",
            ImagesSettings(
                name=name,
                folder=str(folder),
                socket=str(socket),
                threads=row.threads or 0,
                steps=row.steps,
                guidance=row.guidance,
                room_bytes=room_bytes,
                idle_unload_s=part.idle_unload_s,
                max_waiting=part.max_waiting,
                max_waiting_per_key=part.max_waiting_per_key,
                log_format=self._settings.log.format,
            ),
            start="on_demand",
            group="engines",
            memory_bytes=weights_bytes + room_bytes,
            start_timeout_s=120,
        )
        return ServedModel(
            name=name,
            kind="image",
            runs="images",
            child=child,
            socket=str(socket),
            path=str(folder),
            **({"created": int(folder.stat().st_mtime) if folder.exists() else 0} | common),
        )

    def _speakers(self) -> Iterator[ServedModel]:
        """The last of them speaks for chats."""
        part = self._settings.speech
        if (speech := speech_model(part, self._speech)) is not None:
            yield speech
        if (row := part.kokoro) is not None:
            made = kokoro(self._settings, row, run_dir=self._run_dir, missing=self._speech is None)
            options = {"start": "on_demand", "group": "engines", "memory_bytes": made.memory_bytes}
            self._child(made.model.child, "narthex.engine.speech.kokoro.child", made.settings, **options)
            yield made.model

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _memory_bytes(self) -> int:
        return self._settings.engine.memory_bytes or self._machine.memory_bytes // 2

    def _child(self, name: str, module: str, settings: msgspec.Struct, **options: Any) -> None:
        line = msgspec.Raw(msgspec.json.encode(settings, enc_hook=str))
        self._children.append(ChildSpec(name=name, module=module, settings=line, **options))

    def _check_names(self, names: Mapping[str, Named], known: set[str]) -> None:
        for name, named in names.items():
            for deployment in (*named.deployments, *named.context_window, *named.content_filter):
                provider, _, model = deployment.partition("/")
                if provider in self._settings.providers and model:
                    continue
                if provider != "local":
                    raise ConfigError(f"models: '{name}' names '{deployment}', but there is no provider '{provider}'.")
                if model not in known:
                    listed = ", ".join(sorted(known)) or "none"
                    raise ConfigError(f"models: '{name}' names the local model '{model}'. Installed: {listed}.")


def _named(row: PublicModel) -> Named:
    weighs = any(not isinstance(each, str) for each in row.deployments)
    retry, timeouts = row.retry, row.timeouts
    return Named(
        deployments=tuple(each.to for each in row.rows),
        weights=tuple(each.weight for each in row.rows) if weighs else (),
        rules=Rules(
            strategy=row.strategy or ("weighted" if weighs else "order"),
            attempts=retry.attempts or max(3, len(row.deployments)),
            backoff_s=retry.backoff,
            cooldown_s=retry.cooldown,
            connect_s=timeouts.connect,
            first_token_s=timeouts.first_token,
            idle_s=timeouts.idle,
            min_pieces_per_s=timeouts.min_tokens_per_s,
            attempt_s=timeouts.attempt,
            total_s=timeouts.total,
            rescue=row.rescues,
        ),
        context_window=row.fallbacks.context_window,
        content_filter=row.fallbacks.content_filter,
        trusts_templates=row.trust_request_chat_template,
    )


def _egress(settings: Settings) -> Egress:
    row = settings.egress
    return Egress(images=row.images, max_bytes=row.max_bytes, timeout_s=row.timeout, allow=row.allow)


def _remote(row: Provider) -> RemoteProvider:
    preset = PRESETS[row.type]
    return RemoteProvider(
        type=row.type,
        base_url=row.base_url or preset.base_url or "",
        models={
            name: msgspec.structs.replace(preset.traits_of(name), **model.given()) for name, model in row.models.items()
        },
        api_key=row.api_key.get_secret_value() if row.api_key else None,
        first_token_s=row.first_token_s,
        idle_s=row.idle_s,
        extra_params=frozenset(row.extra_params),
        extra_headers=frozenset(row.extra_headers),
    )
