"""What a chat wants from documents, what it got, and the words that put it before a model.

Source: contract sections 3.2, 3.3, 3.7 and 11.
"""

import re
import string

import msgspec

from narthex.core.documents import Collection, Hit, Left

CONTEXT, USER_INPUT = "{{Context}}", "{{UserInput}}"
_SIGNS = (string.digits + string.punctuation).encode()
_PLACEHOLDER = re.compile(r"\{\{(Context|UserInput)\}\}")

SYSTEM_PROMPT = (
    "You're an assistant created by Narthex. Please help the user with their questions by providing concise and clear "
    "answers."
)
RAG_PROMPT = """\
You are given a user query, some textual context and rules, all inside xml tags. You have to answer the query based on \
the context while respecting the rules.

<context>
{{Context}}
</context>

<rules>
- If you don't know, just say so.
- If you are not sure, ask for clarification.
- Answer in the same language as the user query.
- If the context appears unreadable or of poor quality, tell the user then answer as best as you can.
- If the answer is not in the context but you think you know the answer, explain that to the user then answer with \
your own knowledge.
- Answer directly and without using xml tags.
</rules>

<user_query>
{{UserInput}}
</user_query>
"""


def filled(prompt: str, *, context: str, user_input: str) -> str:
    """A prompt with its placeholders replaced in a single pass: what is put in is never looked at again."""
    values = {"Context": context, "UserInput": user_input}
    return _PLACEHOLDER.sub(lambda found: values[found[1]], prompt)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat wants from documents. `question`: what they are searched for; `n`: chunks.

    `documents`: keys of the only ones to search; None: all. `token_budget`: the most tokens of context, None: what the
    model's window leaves.
    """

    collection: str
    question: str
    prompt: str = RAG_PROMPT
    n: int = 5
    documents: tuple[str, ...] | None = None
    token_budget: int | None = None
    explain: bool = False


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Chunks of one document that stand together, as the model reads them. `number` counts blocks from 1.

    `hits`: in the document's order.
    """

    number: int
    hits: tuple[Hit, ...]
    text: str


class Grounded(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat got from documents. `hits`: what the model was given, best first; `left`: what it was not, and why.

    `numbered`: blocks have heads with their numbers. `budget`: tokens of context that there was room for; None: nobody
    knows the model's window. `tokens`: that were embedded for the question. `warnings`: for the caller.
    """

    collection: Collection
    hits: tuple[Hit, ...]
    left: tuple[Left, ...]
    blocks: tuple[Block, ...]
    numbered: bool = True
    words: tuple[str, ...] = ()
    context: str
    context_tokens: int
    budget: int | None
    tokens: int
    duration_ms: int
    warnings: tuple[str, ...] = ()
    explain: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """The keys of the documents that the model was given chunks of, best first."""
        return tuple(dict.fromkeys(hit.document_key for hit in self.hits))


def approximate_tokens(text: str) -> int:
    """About how many tokens a text has, erring on the side of more: a quarter of the letters and spaces of ASCII, and
    each digit, sign and other letter.

    Models differ; what is measured is told beside it wherever it is known.
    """
    if not text:
        return 0
    letters = len(text.encode("ascii", "ignore").translate(None, _SIGNS))
    return len(text) - letters + (letters + 3) // 4
