"""What requests may say of the template that makes a chat a text, as all parts of the program know it.

Source: contract sections 7.1 and 7.3.
"""

from typing import Final, Protocol

from narthex.core.errors import UnsupportedParameter

TEMPLATE: Final = "chat_template"
VARIABLES: Final = "chat_template_kwargs"
CONTINUE: Final = "continue_final_message"
GENERATION_PROMPT: Final = "add_generation_prompt"

MAX_TEMPLATE_BYTES: Final = 64 * 1024
MAX_VARIABLES: Final = 16
MAX_VARIABLES_BYTES: Final = 4096
"""As JSON, all of them together."""
MAX_LIST: Final = 32
"""Items of a variable that is a list."""

ARGUMENTS: Final = frozenset(
    (
        TEMPLATE, "tokenize", "tools", "documents", "conversation", "messages", GENERATION_PROMPT, CONTINUE, "padding",
        "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
    )
)  # fmt: skip
"""Names that no variable of a caller's may have: servers would take them for arguments of the call that renders."""


class Sender(Protocol):
    """Who sends a request."""

    @property
    def may_send_templates(self) -> bool:
        """Whether its requests may bring a chat template."""
        ...


def check_allowed(sender: Sender, *, model: str, trusted: bool) -> None:
    """Return if somebody may bring a template to a model, which may be `trusted` with it.

    Raises:
        UnsupportedParameter: names the field, and what stands in its way.
    """
    if trusted and sender.may_send_templates:
        return
    if trusted:
        why = "this key may not send templates."
    else:
        why = f"the model '{model}' takes none from requests ('trust_request_chat_template' is not set)."
    raise UnsupportedParameter(f"'{TEMPLATE}' is refused: {why}", param=TEMPLATE)
