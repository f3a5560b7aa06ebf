"""Makes deployments of the models that engines of ours, or somebody's llama-server, serve."""

import hashlib
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from narthex.core.ports import Connect, Deployment, Ensure, Grammars, Templates
from narthex.core.slots import Slots
from narthex.engine import gguf
from narthex.engine.leases import LocalSlots
from narthex.engine.leases import Slots as BrokerSlots
from narthex.engine.local.driver import LocalDeployment
from narthex.engine.local.embedding import GgufEmbeddings
from narthex.engine.local.infill import fill_in_of
from narthex.engine.local.llama import LlamaServer
from narthex.engine.local.prediction import Predictions
from narthex.engine.local.preparation import Facts, LocalModel
from narthex.engine.local.prompt import control_pattern
from narthex.engine.queue import QueueLimits
from narthex.engine.served import ServedModel

_CONTROL, _USER_DEFINED = 3, 4
"""Token types of a GGUF vocabulary that mean more than their text."""
_UNBOUNDED_CELLS = 2**31


class LocalEngines:
    """Every local model of one worker, and what it holds open for them. Close it with `aclose`."""

    def __init__(
        self,
        templates: Templates,
        *,
        grammars: Grammars,
        connect: Connect,
        ensure: Ensure,
        share_prefix_cache: bool,
    ) -> None:
        self._templates = templates
        self._grammars = grammars
        self._connect = connect
        self._ensure = ensure
        self._share_prefix_cache = share_prefix_cache
        self._stack = AsyncExitStack()

    def add(self, model: ServedModel) -> Deployment:
        """The deployment of one model."""
        server = LlamaServer(self._connect(model.url or f"unix:{model.socket}"))
        if model.kind == "embedding":
            return GgufEmbeddings(model.name, server, child=model.child, slots=self._slots(model), ensure=self._ensure)
        known = LocalModel(
            name=model.name,
            child=model.child,
            fingerprint=_fingerprint(model),
            window=model.window,
            heeds=model.heeds,
            facts=lambda: read_facts(model),
        )
        return LocalDeployment(
            known,
            server,
            slots=self._slots(model),
            templates=self._templates,
            grammars=self._grammars,
            ensure=self._ensure,
            predictions=self._checking(model),
        )

    def _checking(self, model: ServedModel) -> Predictions | None:
        if not model.prediction_child:
            return None
        predictions = Predictions(Path(model.prediction_socket), child=model.prediction_child, ensure=self._ensure)
        self._stack.push_async_callback(predictions.aclose)
        return predictions

    async def aclose(self) -> None:
        """Close every connection."""
        await self._stack.aclose()

    def _slots(self, model: ServedModel) -> Slots:
        if model.runs == "url":  # nobody else asks it for us, so the queue can be our own
            limits = QueueLimits(slots=model.slots, cells=_UNBOUNDED_CELLS, window=model.window or _UNBOUNDED_CELLS)
            return LocalSlots(limits, share_prefix_cache=self._share_prefix_cache)
        slots = BrokerSlots(Path(model.control_socket), name=f"engine of {model.name}")
        self._stack.push_async_callback(slots.aclose)
        return slots


def read_facts(model: ServedModel) -> Facts:
    """What the model's file tells; nothing for a model that is somebody else's. Blocks.

    Raises:
        ModelLoadFailed: the file is damaged.
    """
    if not model.path:
        return Facts()
    tokens, types = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
    file = gguf.read(Path(model.path), arrays=(tokens, types))
    texts = cast("tuple[str, ...]", file.metadata.get(tokens, ()))
    kinds = cast("tuple[Any, ...]", file.metadata.get(types, ()))
    control = [text for text, kind in zip(texts, kinds, strict=False) if kind in {_CONTROL, _USER_DEFINED}]
    return Facts(
        template=file.chat_template or "",
        control=control_pattern(control),
        fill_in=fill_in_of(file.metadata),
    )


def _fingerprint(model: ServedModel) -> str:
    """Contract Q30: changes with the engine, the model's file or the defaults, and with nothing else."""
    engine = model.url or version("xllamacpp")
    digest = hashlib.sha256(f"{engine}|{model.digest or model.path}|defaults 1".encode()).hexdigest()
    return f"fp_{digest[:10]}"
