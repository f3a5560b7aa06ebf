"""GGUF files from the Hugging Face hub: what the hub says of a file comes through its client library, the bytes through
ranged requests, because the library (2.4) starts a download anew after every cut and we go on where it stopped.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec

from narthex.core.errors import ModelLoadFailed, ModelNotFound
from narthex.engine.images import layout
from narthex.engine.models import manifest
from narthex.engine.models.disk import full_disk_named, require_room
from narthex.engine.models.registry import Progress
from narthex.engine.models.source import HubSource

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1024 * 1024
_FRUITLESS_TRIES = 3
_TIMEOUT = httpx2.Timeout(30, connect=10)


class HubFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file as the hub describes it."""

    name: str
    url: str
    etag: str
    size_bytes: int

    @property
    def sha256(self) -> str | None:
        """Its digest; large files have it as their etag, others have none."""
        return self.etag if _SHA256.fullmatch(self.etag) else None


def describe(source: HubSource, *, endpoint: str | None = None) -> HubFile:
    """Ask the hub for the file that `source` names. Blocks.

    Raises:
        ModelNotFound: no such repository, revision or file, or the repository has several and none was named.
        ModelLoadFailed: the hub can't be reached or refuses.
    """
    import huggingface_hub as hub  # noqa: PLC0415 - 0.3 s to import, for this job only

    with _errors_named(source):
        api = hub.HfApi(endpoint=endpoint)
        name = source.file or _only_gguf(source, api.list_repo_files(source.repo, revision=source.revision))
        url = hub.hf_hub_url(source.repo, name, revision=source.revision, endpoint=endpoint)
        found = hub.get_hf_file_metadata(url, endpoint=endpoint)
    if found.etag is None or found.size is None:
        raise ModelLoadFailed(f"{source.spec}: the hub says neither size nor digest of {name}.")
    if found.commit_hash:  # all parts of a resumed download come from one commit
        url = hub.hf_hub_url(source.repo, name, revision=found.commit_hash, endpoint=endpoint)
    return HubFile(name=name, url=url, etag=found.etag, size_bytes=found.size)


def pipeline(source: HubSource, *, endpoint: str | None = None) -> list[HubFile]:
    """The files of a repository that holds a pipeline for images; none where it holds something else. Blocks.

    Raises:
        ModelNotFound: there is no such repository or revision.
        ModelLoadFailed: the hub can't be reached or refuses, or the pipeline is not in ONNX.
    """
    import huggingface_hub as hub  # noqa: PLC0415 - see above

    with _errors_named(source):
        names = hub.HfApi(endpoint=endpoint).list_repo_files(source.repo, revision=source.revision)
    if layout.INDEX not in names:
        return []
    if missing := [file for file in layout.GRAPHS if file not in names]:
        raise ModelLoadFailed(f"{source.spec}: the repository has a pipeline, but not in ONNX: no {missing[0]}.")
    wanted = (*layout.GRAPHS, *sorted(name for name in names if layout.belongs(name) and name not in layout.GRAPHS))
    return [describe(msgspec.structs.replace(source, file=name), endpoint=endpoint) for name in wanted]


def _only_gguf(source: HubSource, names: list[str]) -> str:
    found = sorted(name for name in names if name.lower().endswith(".gguf"))
    preferred = [name for name in found if "q4_k_m" in name.lower()]
    if len(found) == 1 or len(preferred) == 1:
        return (preferred or found)[0]
    listed = ", ".join(found[:20]) or "none"
    raise ModelNotFound(f"{source.spec}: name one of the repository's GGUF files. It has: {listed}.")


@contextmanager
def _errors_named(source: HubSource) -> Iterator[None]:
    from huggingface_hub import errors  # noqa: PLC0415 - see above

    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelLoadFailed(
            f"{source.spec}: the owner asks you to accept the licence on the hub; then set HF_TOKEN to your token."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise ModelNotFound(f"{source.spec}: the hub has no such repository, revision or file.") from error
    except errors.HfHubHTTPError as error:
        raise ModelLoadFailed(f"{source.spec}: the hub answered {error.response.status_code}.") from error
    except (httpx2.HTTPError, OSError) as error:
        raise ModelLoadFailed(f"{source.spec}: the hub can't be reached ({type(error).__name__}).") from error


def download(file: HubFile, work: Path, *, on_progress: Progress, pause_s: float = 1) -> Path:
    """The file in `work`, whole and of the hub's digest. What an earlier call left is gone on with. Blocks.

    `pause_s` is waited, longer each time, after a try that brought nothing.

    Raises:
        ModelLoadFailed: cut three times without a byte in between, refused, or another file than the hub described.
        StorageFull: no room for it.
    """
    partial = work / f"{hashlib.sha256(file.etag.encode()).hexdigest()[:32]}.incomplete"
    partial.touch()
    require_room(work, file.size_bytes - partial.stat().st_size)
    fruitless = 0
    with httpx2.Client(headers=_headers(), follow_redirects=True, timeout=_TIMEOUT) as client:
        while (before := partial.stat().st_size) < file.size_bytes:
            try:
                with full_disk_named(work):
                    _fetch_rest(client, file, partial, on_progress=on_progress)
            except httpx2.TransportError as error:
                fruitless = 0 if partial.stat().st_size > before else fruitless + 1
                if fruitless == _FRUITLESS_TRIES:
                    cut = f"the download was cut at {before} of {file.size_bytes} bytes"
                    raise ModelLoadFailed(f"{file.name}: {cut}; pull again to go on.") from error
                time.sleep(pause_s * fruitless)
    _check(file, partial)
    return partial


def _headers() -> dict[str, str]:
    """The caller's token, if the hub's own tools would find one. It is not sent on to another host by a redirect."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # noqa: PLC0415 - see above

    headers: dict[str, str] = build_hf_headers()
    return headers


def _fetch_rest(client: httpx2.Client, file: HubFile, partial: Path, *, on_progress: Progress) -> None:
    done = partial.stat().st_size
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={done}-"}
    with client.stream("GET", file.url, headers=headers) as answer:
        if answer.status_code not in (200, 206):
            raise ModelLoadFailed(f"{file.name}: the hub answered {answer.status_code}.")
        going_on = answer.headers.get("content-range", "").startswith(f"bytes {done}-")
        if answer.status_code == 206 and not going_on:
            raise ModelLoadFailed(f"{file.name}: the hub sent another range than was asked for.")
        with partial.open("ab" if going_on else "wb") as out:
            done = done if going_on else 0
            for block in answer.iter_raw(_BLOCK):
                done += len(block)
                if done > file.size_bytes:
                    break
                out.write(block)
                on_progress(done, file.size_bytes)
            manifest.sync(out)
    if done > file.size_bytes:
        partial.unlink()
        raise ModelLoadFailed(f"{file.name}: the hub sent more than the {file.size_bytes} bytes it had announced.")
    if done < file.size_bytes:
        raise httpx2.ReadError("the answer ended early")


def _check(file: HubFile, partial: Path) -> None:
    if file.sha256 is None:
        return
    found = manifest.sha256_of(partial)
    if found != file.sha256:
        partial.unlink()
        raise manifest.wrong_digest(file.name, expected=file.sha256, found=found)
