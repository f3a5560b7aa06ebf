"""The branch of servers elsewhere, and of what their models can do."""

from typing import Annotated, Any

import pydantic
from pydantic import Field, PositiveFloat, PositiveInt, SecretStr

from narthex.core.extras import header_fault, param_fault
from narthex.core.models import ModelKind
from narthex.dialects import openai_chat, openai_completions, openai_embeddings, openai_images, openai_speech
from narthex.providers.presets import PRESETS
from narthex.providers.traits import MaxTokensField
from narthex.settings.part import Part

_DIALECTS = (openai_chat, openai_completions, openai_embeddings, openai_images, openai_speech)
_COMPATIBLE = "openai-compatible"


def _param(name: str) -> str:
    if (fault := param_fault(name)) is not None:
        raise ValueError(f"'{name[:100]}' can't be allowed: {fault}")
    return name


def _header(name: str) -> str:
    if (fault := header_fault(name)) is not None:
        raise ValueError(f"'{name[:100]}' can't be allowed: {fault}")
    return name.lower()


Params = tuple[Annotated[str, pydantic.AfterValidator(_param)], ...]
Headers = tuple[Annotated[str, pydantic.AfterValidator(_header)], ...]


class ProviderModel(Part):
    """What one model of a provider can do, where that differs from what the provider's type says; none: it doesn't."""

    max_tokens_field: MaxTokensField | None = Field(
        None, description="The only name by which it takes the limit of an answer."
    )
    refused: tuple[str, ...] = Field((), description="Request fields that it can't honour.")
    developer: bool | None = Field(None, description="It knows the role developer; without: sent as system.")
    functions: bool | None = Field(None, description="It knows the older functions; without: sent as tools.")
    prefill: bool | None = Field(None, description="It continues a trailing assistant message, where that is a choice.")
    kind: ModelKind | None = Field(
        None, description="It is for this only: chat (and completions), embedding, image; none: for all its server has."
    )
    reasoning: bool | None = Field(
        None,
        description="true: it thinks first, and takes no sampling fields; false: it takes no `reasoning_effort`.",
    )
    answer_tokens: PositiveInt | None = Field(
        None, description="The limit of answers whose caller set none, where the server must be told one (anthropic)."
    )
    json_schema: bool | None = Field(
        None, description="Its answers can be held to a schema (anthropic; elsewhere it is known)."
    )
    adaptive: bool | None = Field(None, description="It thinks by effort and not by a budget (anthropic).")
    may_not_think: bool | None = Field(None, description="It can be told not to think (anthropic).")
    may_have_to_call: bool | None = Field(None, description="It can be made to call a tool (anthropic).")
    extra_params: Params | None = Field(
        None, description="As the provider's `extra_params`, for this model; none: the provider's."
    )
    extra_headers: Headers | None = Field(
        None, description="As the provider's `extra_headers`, for this model; none: the provider's."
    )

    @pydantic.field_validator("refused")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value).difference(*(dialect.FORM.known for dialect in _DIALECTS)):
            raise ValueError(f"there is no request field '{min(unknown)}'")
        return value

    def given(self) -> dict[str, Any]:
        """What the configuration says, by the names of `ModelTraits`."""
        told = self.model_dump(exclude_none=True, exclude_defaults=True)
        return {name: frozenset(each) if isinstance(each, tuple) else each for name, each in told.items()}


class Provider(Part):
    """A server of models elsewhere."""

    type: str = Field(_COMPATIBLE, description=f"What it is: {', '.join(PRESETS)}.")
    base_url: str | None = Field(
        None,
        description="Where it is, up to and with its version: https://host/v1, unix:/path.sock; none: the type's own.",
    )
    api_key: SecretStr | None = Field(None, description="Its key; write ${NAME} to take it from the environment.")
    first_token_s: PositiveFloat | None = Field(None, description="The longest wait for the first output.")
    idle_s: PositiveFloat | None = Field(60.0, description="The longest silence within an answer.")
    extra_params: Params = Field(
        (), description="Names that callers may add to the request's body, by `inference_extra_params`."
    )
    extra_headers: Headers = Field(
        (), description="Headers that callers may add to the request, by `inference_extra_headers`."
    )
    models: dict[str, ProviderModel] = Field({}, description="Models that differ from others of this type, by name.")

    @pydantic.model_validator(mode="after")
    def _located(self) -> "Provider":
        if self.type not in PRESETS:
            raise ValueError(f"there is no provider type '{self.type[:100]}'; there are {', '.join(PRESETS)}")
        if not self.base_url and PRESETS[self.type].base_url is None:
            raise ValueError(f"providers of the type '{self.type}' need a `base_url`")
        return self
