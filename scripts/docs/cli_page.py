"""`cli.md`: every command with its arguments and options."""

from collections.abc import Iterator
from typing import Any

import markdown
import typer

from narthex.cli.program import app

INTRO = """\
The program is `.venv/bin/narthex` after `make setup`, and `narthex` where the package is installed.
Every command has `--help`. Exit codes: 0 done, 1 failed, 2 wrong usage or invalid settings.

Commands that take `--data` work on the data folder itself, whether or not a server uses it. `narthex restore` alone
needs the folder for itself. `narthex chat` talks to a running server."""


def commands(group: Any, path: str = "narthex") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def page() -> str:
    """The whole page."""
    blocks = [_section(name, command) for name, command in commands(typer.main.get_command(app))]
    return markdown.page("Command line", INTRO, *blocks)


def _section(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    blocks = [f"## `{name}`", f"```text\n{usage}\n```", _paragraphs(command.help or "")]
    listed = [(markdown.code(one.metavar or one.name.upper()), "", one.help or "") for one in arguments]
    listed += [(_option(one), *_told(one)) for one in options]
    if listed:
        blocks.append(markdown.table(("argument or option", "default", "meaning"), listed))
    return "\n\n".join(blocks)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _argument(one: Any) -> str:
    name = one.metavar or one.name.upper()
    return name if one.required else f"[{name}]"


def _option(one: Any) -> str:
    if one.is_flag:
        return markdown.code(", ".join(one.opts))
    kind = getattr(one.type_descriptor.annotation, "__name__", "text")
    names = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "Path": "PATH", "Literal": "NAME"}
    return markdown.code(f"{', '.join(one.opts)} {names.get(kind, 'NAME')}")


def _told(one: Any) -> tuple[str, str]:
    """The default and the meaning. Where the program finds the default itself, the help text tells it."""
    text, _, told = (one.help or "").partition("  \\[default: ")
    default = told.rstrip("]")
    if not default and one.default not in {None, False}:
        default = str(one.default)
    return markdown.code(default), text
