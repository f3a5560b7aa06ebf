"""The installed models: a folder each, under `<data>/models`."""

import contextlib
import shutil
from pathlib import Path

import msgspec

from narthex.core.errors import ModelLoadFailed, ModelNotFound
from narthex.core.models import ModelKind
from narthex.engine import gguf
from narthex.engine.models import manifest
from narthex.engine.models.manifest import Manifest
from narthex.engine.models.source import FileSource, parse, slug


class ResolvedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be started."""

    name: str
    kind: ModelKind
    path: Path
    """The GGUF file, or the folder of an embedding model that runs in the embedder."""


class ModelStore:
    """Reads and removes; `pull.pull` installs. Every method blocks on the disk, for moments."""

    def __init__(self, models_dir: Path) -> None:
        self._dir = models_dir

    def installed(self) -> list[Manifest]:
        """What is installed, by name. Damaged models are listed too; `path` tells."""
        found = []
        for folder in sorted(self._dir.glob("[!.]*")):
            with contextlib.suppress(ModelNotFound, ModelLoadFailed):
                found.append(manifest.load(folder))
        return found

    def path(self, name: str) -> Path:
        """Where the model is: its GGUF file, else its folder. Its files have been compared with the manifest.

        Raises:
            ModelNotFound: not installed.
            ModelLoadFailed: a file is missing, truncated or changed.
        """
        return self.resolve(name).path

    def check(self, name: str, *, verify: bool = False) -> Manifest:
        """The manifest after a comparison with the files; `verify` reads them whole.

        Raises:
            ModelNotFound: not installed.
            ModelLoadFailed: a file is missing, truncated or changed.
        """
        return manifest.check(self._folder(name), verify=verify)

    def resolve(self, spec: str) -> ResolvedModel:
        """What `spec` stands for: the name of an installed model, or all that `pull` takes. Nothing is fetched.

        Raises:
            InvalidRequest: a path that leads nowhere.
            ModelNotFound: not installed, and not a file.
            ModelLoadFailed: it is damaged.
        """
        name = spec
        if spec.startswith("hf:") or "/" in spec or spec.lower().endswith(".gguf"):
            source = parse(spec)
            if isinstance(source, FileSource):
                header = gguf.read(source.path)
                kind: ModelKind = "chat" if header.pooling_type is None else "embedding"
                return ResolvedModel(name=source.name, kind=kind, path=source.path)
            name = source.name
        found = self.check(name)
        folder, first = self._folder(name), found.files[0].path
        path = folder / first if first.lower().endswith(".gguf") else folder
        return ResolvedModel(name=found.name, kind=found.kind, path=path)

    def remove(self, name: str) -> None:
        """Delete the model's files. A process that has them open keeps them until it ends.

        Raises:
            ModelNotFound: not installed.
        """
        folder = self._folder(name)
        if not (folder / manifest.FILE_NAME).is_file():
            raise ModelNotFound(f"The model {name} is not installed.")
        (folder / manifest.FILE_NAME).unlink()  # from here on it is no model, even if the rest is interrupted
        shutil.rmtree(folder)

    def _folder(self, name: str) -> Path:
        if slug(name) != name:  # a name never leaves the store's folder
            raise ModelNotFound(f"The model {name!r} is not installed.")
        return self._dir / name
