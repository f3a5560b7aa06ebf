"""`narthex serve`: check the settings, fetch what is missing, become the supervisor."""

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from narthex import __version__
from narthex.cli.models import pulled_with_progress
from narthex.core.errors import ConfigError, NarthexError
from narthex.core.keys import Secret
from narthex.serving import SCHEMA, Machine
from narthex.serving.following import Options, plan_of
from narthex.settings import DEFAULT_FILE, Settings
from narthex.storage.adminkey import read_admin_key, write_admin_key
from narthex.storage.sqlite.control import open_control
from narthex.supervisor import datafolder
from narthex.supervisor.launch import become
from narthex.supervisor.plan import Stamp


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  \\[default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.  \\[default: 8000]")] = None,
    data: Annotated[Path | None, typer.Option(help="The data folder.  \\[default: ./narthex-data]")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file.  \\[default: ./narthex.yaml if there]")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.  \\[default: 1]")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Serve over TLS: certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Serve over TLS: private key, PEM.")] = None,
) -> None:
    """Serve the API, with an embedded model by default. Ctrl-C stops it after running requests have ended.

    The first start fetches the two embedded models, makes the data folder and an admin key.
    """
    console = Console(stderr=True, highlight=False)
    try:
        if (tls_cert is None) != (tls_key is None):
            raise ConfigError("Give both --tls-cert and --tls-key, or neither.")
        options = Options(
            config=_text(config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)),
            host=host,
            port=port,
            data=_text(data),
            workers=workers,
            tls_cert=_absolute(tls_cert),
            tls_key=_absolute(tls_key),
        )
        settings = options.read().checked()
        folder = settings.data.absolute()
        lock = datafolder.lock(folder)
        datafolder.stamp(folder, Stamp(schema=SCHEMA, program=__version__))
        pulled_with_progress(_wanted(settings), folder / "models")
        secret = asyncio.run(_ensure_admin(folder))
        if settings.port == 0:
            settings = settings.model_copy(update={"port": _free_port(settings.host)})
        plan = plan_of(settings, options, data=folder, run_dir=datafolder.run_dir(folder), machine=Machine.here())
    except NarthexError as error:
        console.print(f"[red]narthex:[/red] {escape(error.message)}", soft_wrap=True)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
    _greet(console, settings, folder, secret)
    become(plan, lock)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _wanted(settings: Settings) -> list[str]:
    """The models to fetch where they are missing: the defaults, and those that the settings name on the hub."""
    sources = [row.source for row in settings.engine.models.values()]
    sources += [row.source for row in settings.engine.images.values()]
    hub = (source for source in sources if source is not None and source.startswith("hf:"))
    return [*filter(None, (settings.engine.default, settings.embedder.default)), *dict.fromkeys(hub)]


def _free_port(host: str) -> int:
    """A free port, found now so that it can be told before the supervisor listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


async def _ensure_admin(folder: Path) -> Secret | None:
    """The secret of a new admin key; None when there was one already."""
    control = await open_control(folder / "control.db", clock=lambda: time.time_ns() // 1_000_000)
    try:
        made = await control.keys.ensure_admin()
        if made is None:
            return None
        write_admin_key(folder, made[1])
        return made[1]
    finally:
        await control.aclose()


def _greet(console: Console, settings: Settings, folder: Path, made: Secret | None) -> None:
    """Tell where we are and how to ask; the key itself only on a terminal."""
    scheme = "https" if settings.http.tls else "http"
    url = f"{scheme}://{settings.host}:{settings.port}"
    secret = made or read_admin_key(folder)
    key = secret.reveal() if secret is not None and sys.stderr.isatty() else f"$(cat {folder / 'admin.key'})"
    model = settings.engine.default or "<model>"
    console.print(f"Narthex {__version__} on {url}/v1  (data: {folder})", soft_wrap=True)
    console.print("Ask it:", style="bold")
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    console.print(
        f'  curl {url}/v1/chat/completions -H "Authorization: Bearer {key}" '
        f"-H 'Content-Type: application/json' -d '{body}'",
        soft_wrap=True,
        markup=False,
    )
