"""`narthex backup` and `narthex restore`."""

from pathlib import Path
from typing import Annotated

import typer

from narthex.cli.keys import DEFAULT_DATA, Data, now_ms, reported
from narthex.storage.sqlite import backup as archive
from narthex.supervisor import datafolder


def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="The archive to write; must not exist.")],
    *,
    data: Data = DEFAULT_DATA,
) -> None:
    """Save every database of the data folder in one archive, also while the server runs.

    Model files are not in it (they can be pulled again), nor is narthex.yaml, nor any key: keys are kept as digests.
    """
    with reported():
        manifest = archive.backup(data, target, clock=now_ms)
    typer.echo(f"Saved {len(manifest.files)} files to {target}.")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE.tar.gz", exists=True, dir_okay=False)],
    *,
    force: Annotated[bool, typer.Option("--force", help="Move what is there aside, into replaced-…")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Put the databases of a backup into the data folder, which no server may be using.

    Every file is compared with its digest first. Model files are not in a backup: pull them again. If admin.key is
    missing or older than the backup's keys, `narthex keys reset-admin` makes a new one.
    """
    with reported(), datafolder.lock(data):
        manifest = archive.restore(source, data, replace=force, clock=now_ms)
    typer.echo(f"Restored {len(manifest.files)} files, saved by Narthex {manifest.program}, to {data}.")
