"""What a caller may name as a model: a row of the catalogue, a GGUF file, or a file on the Hugging Face hub."""

import re
from pathlib import Path

import msgspec

from narthex.core.errors import InvalidRequest
from narthex.engine.models.catalogue import CatalogueModel, row

_HUB = re.compile(
    r"hf:(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[\w./-]+))?", re.ASCII
)


class FileSource(msgspec.Struct, frozen=True, kw_only=True):
    """A GGUF file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """How the model is called once it is installed."""
        return slug(self.path.stem)

    @property
    def spec(self) -> str:
        """As `parse` takes it."""
        return str(self.path)


class HubSource(msgspec.Struct, frozen=True, kw_only=True):
    """A GGUF file of a repository on the hub; without `file`, the repository must make the choice plain."""

    repo: str
    file: str | None = None
    revision: str = "main"

    @property
    def name(self) -> str:
        """How the model is called once it is installed; known without asking the hub."""
        if self.file is not None:
            return slug(Path(self.file).stem)
        return slug(self.repo.rpartition("/")[2]).removesuffix("-gguf")

    @property
    def spec(self) -> str:
        """As `parse` takes it."""
        file = f"/{self.file}" if self.file else ""
        return f"hf:{self.repo}{file}@{self.revision}"


Source = CatalogueModel | FileSource | HubSource


def slug(text: str) -> str:
    """`text` as a name that is safe as a folder's and in a URL."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip(".-") or "model"


def parse(spec: str) -> Source:
    """What `spec` names: `hf:owner/repo[/file.gguf][@revision]`, a path that ends in `.gguf`, or a catalogue name.

    Raises:
        InvalidRequest: it looks like a hub name or a path and is none.
        ModelNotFound: the catalogue has no such row.
    """
    if spec.startswith("hf:"):
        return _hub_source(spec)
    if spec.lower().endswith(".gguf") or "/" in spec:
        path = Path(spec).expanduser()
        if not path.is_file():
            raise InvalidRequest(f"There is no file {spec}.", param="model", code="invalid_value")
        return FileSource(path=path.absolute())
    return row(spec)


def _hub_source(spec: str) -> HubSource:
    match = _HUB.fullmatch(spec)
    file = match["file"] if match else None
    if match is None or (file is not None and (".." in Path(file).parts or not file.lower().endswith(".gguf"))):
        raise InvalidRequest(
            f"{spec} is not of the form hf:owner/repo[/file.gguf][@revision].", param="model", code="invalid_value"
        )
    return HubSource(repo=match["repo"], file=file, revision=match["revision"] or "main")
