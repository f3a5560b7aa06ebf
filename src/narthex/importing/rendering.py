"""Our configuration file as text: what was carried over, what has to be set, and what was left out, as comments."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml
from typing_extensions import override

from narthex.importing.document import Told
from narthex.importing.variables import Variables

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class _Plain(yaml.SafeDumper):
    """Writes what is there twice twice: nobody wants to read anchors."""

    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file. `settings`: ours. `notes`: what is to be done; `told`: what was left out.

    `carried`: the paths of what was taken over.
    """

    settings: dict[str, Any]
    notes: tuple[str, ...]
    told: tuple[Told, ...]
    carried: frozenset[str]

    def text(self) -> str:
        """The file to write."""
        body = yaml.dump(self.settings, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
        notes = "".join(f"# {note}\n" for note in self.notes)
        told = "".join(f"#   {line}\n" for line in self.left_out())
        return notes + body + (f"\n# Not carried over:\n{told}" if told else "")

    def left_out(self) -> list[str]:
        """A line for each thing that was left out: where it stood, its key, why."""
        return [f"line {one.line}: {_one_line(one.path)}: {one.why}" for one in self.told]


def notes(variables: Variables, providers: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What is to be done before the file can be used. `providers`: the rows that it has."""
    found = ["A gateway alone: without the lines `engine` and `embedder`, models of this server's own are there too."]
    named = {name for row in providers.values() for value in row.values() for name in _VARIABLE.findall(value)}
    if others := sorted(named - variables.literal.keys()):
        found.append(f"Set these environment variables: {', '.join(others)}.")
    for name, line in variables.literal.items():
        found.append(f"Set {name} to the secret that stands in line {line}: secrets are not copied.")
    for name, row in providers.items():
        if "$" in row.get("base_url", ""):
            found.append(
                f"See that the address of `{name}` comes out right: {row['base_url']} has to end in its version."
            )
    return tuple(found)


def _one_line(path: str) -> str:
    """Keys are free text: none ends the comment it stands in."""
    return " ".join(path.split())[:200]
