"""`narthex import`: other programs' configurations, turned into ours."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from narthex.core.errors import ConfigError
from narthex.importing import litellm as theirs
from narthex.importing.checking import check
from narthex.importing.rendering import Imported

app = typer.Typer(no_args_is_help=True)


@app.callback()
def of() -> None:
    """Turn another program's configuration into narthex.yaml."""


@app.command(epilog="Then: `narthex config check --config narthex.yaml`, and `narthex serve`.")
def litellm(
    file: Annotated[Path, typer.Argument(help="LiteLLM's configuration, as in `litellm --config FILE`.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it.  \\[default: standard output]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 3 where something could not be carried over.")
    ] = False,
) -> None:
    """Turn LiteLLM's configuration into ours, and say what could not be carried over.

    Models, their servers, weights, timeouts, retries, fallbacks and aliases are carried over. What was left out is told
    on standard error and at the end of the file: its line, its key and why. Secrets are not copied: the file names
    environment variables instead, and its first lines say which are to be set.

    Exit code 0: done; 1: the file can't be read or written; 2: it is no LiteLLM configuration; 3: see --strict.
    """
    made = _converted(file)
    text = made.text()
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text, force=force)
    _report(made)
    if strict and made.told:
        raise typer.Exit(3)


def _converted(file: Path) -> Imported:
    try:
        made = theirs.convert(file.read_text(encoding="utf-8"))
        check(made.text())
    except OSError as error:
        _fail(f"{file}: {error.strerror}", exit_code=1)
    except UnicodeDecodeError:
        _fail(f"{file}: This is no text.", exit_code=2)
    except ConfigError as error:
        _fail(f"{file}: {error.message}", exit_code=2)
    return made


def _write(output: Path, text: str, *, force: bool) -> None:
    try:
        with output.open("w" if force else "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        _fail(f"{output} is there already; --force overwrites it.", exit_code=1)
    except OSError as error:
        _fail(f"{output}: {error.strerror}", exit_code=1)


def _report(made: Imported) -> None:
    errors = Console(stderr=True, highlight=False, markup=False)
    for note in made.notes:
        errors.print(note, soft_wrap=True)
    if made.told:
        errors.print(f"Not carried over ({len(made.told)}):", soft_wrap=True)
    for line in made.left_out():
        errors.print(f"  {line}", soft_wrap=True)


def _fail(message: str, *, exit_code: int) -> NoReturn:
    Console(stderr=True, highlight=False, markup=False).print(f"narthex: {message}", soft_wrap=True)
    raise typer.Exit(exit_code)
