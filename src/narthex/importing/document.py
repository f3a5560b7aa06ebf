"""A YAML file that is read once and accounts for each of its keys: it is carried over, or told with its line."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import yaml

from narthex.core.errors import ConfigError

_VARIABLE = re.compile(r"\$\{")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Something that stands in the file and was left out, and why. Values are never in it: they may be secrets."""

    line: int
    path: str
    why: str


class Account:
    """What became of the keys of one file. `carried`: the paths of what was taken over; `told`: what was not."""

    def __init__(self) -> None:
        self.carried: set[str] = set()
        self.told: list[Told] = []

    def tell(self, node: yaml.Node, path: str, why: str) -> None:
        """Note that something is left out; the same thing once."""
        told = Told(line=node.start_mark.line + 1, path=path, why=why)
        if told not in self.told:
            self.told.append(told)


class Section:
    """A map of the file. Its keys are taken or told one by one; `rest` tells of all others."""

    def __init__(self, node: yaml.MappingNode, path: str, *, account: Account, loader: yaml.SafeLoader) -> None:
        self.path = path
        self._node = node
        self._account = account
        self._loader = loader
        self._seen: set[str] = set()
        self._twice()
        loader.flatten_mapping(node)
        self._items = {str(key.value): (key, value) for key, value in node.value}

    def _twice(self) -> None:
        """Tell of keys that stand here twice; those that are merged into the map stand elsewhere."""
        begin, end = self._node.start_mark.index, self._node.end_mark.index
        found: dict[str, yaml.Node] = {}
        for key, _ in self._node.value:
            if begin <= key.start_mark.index < end:
                if key.value in found:
                    self._account.tell(found[key.value], self._below(key.value), "given twice: the last one counts")
                found[key.value] = key

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def line(self, key: str) -> int:
        """Where a key stands."""
        return int(self._items[key][0].start_mark.line) + 1

    # --- taking

    def value(self, key: str) -> Any:
        """Whatever is there, and None where nothing is; counts as carried over."""
        self._seen.add(key)
        if key not in self._items:
            return None
        self._account.carried.add(self._below(key))
        return self._loader.construct_object(self._items[key][1], deep=True)

    def text(self, key: str) -> str | None:
        """A text; anything else is told."""
        value = self.value(key)
        if value is None or (isinstance(value, str) and not _VARIABLE.search(value)):
            return value or None
        self.tell(key, "it is not a plain text")
        return None

    def number(self, key: str) -> float | None:
        """A number that is not negative; anything else is told."""
        value = self.value(key)
        try:
            if value is None or (not isinstance(value, bool) and 0 <= (number := float(value)) < float("inf")):
                return None if value is None else number
        except (TypeError, ValueError):
            pass
        self.tell(key, "it is not a number that can be used")
        return None

    def flag(self, key: str) -> bool:
        """Whether it is true; anything but true and false is told."""
        value = self.value(key)
        if value is not None and not isinstance(value, bool):
            self.tell(key, "it is neither true nor false")
        return value is True

    def section(self, key: str) -> "Section | None":
        """A map within; anything else is told."""
        self._seen.add(key)
        node = self._items[key][1] if key in self._items else None
        if isinstance(node, yaml.MappingNode):
            return Section(node, self._below(key), account=self._account, loader=self._loader)
        if node is not None and node.value:
            self.tell(key, "it is not a map")
        return None

    def sections(self, key: str) -> list["Section"]:
        """The maps of a list; anything else is told."""
        self._seen.add(key)
        node = self._items[key][1] if key in self._items else None
        if not isinstance(node, yaml.SequenceNode):
            if node is not None and node.value:
                self.tell(key, "it is not a list")
            return []
        found = []
        for place, item in enumerate(node.value):
            path = f"{self._below(key)}.{place}"
            if isinstance(item, yaml.MappingNode):
                found.append(Section(item, path, account=self._account, loader=self._loader))
            else:
                self._account.tell(item, path, "it is not a map")
        return found

    # --- telling

    def tell(self, key: str, why: str, *, of: str | None = None) -> None:
        """Leave a key out and say why. `of`: a part of its value, as its path goes on."""
        self._seen.add(key)
        path = self._below(key)
        if of is None:
            self._account.carried.discard(path)
        self._account.tell(self._items[key][0], path if of is None else f"{path}.{of}", why)

    def tell_all(self, why: str) -> None:
        """Leave the whole map out."""
        self._seen.update(self._items)
        carried = self._account.carried
        carried.difference_update([path for path in carried if path.startswith(f"{self.path}.")])
        self._account.tell(self._node, self.path, why)

    def rest(self, reasons: Mapping[str, str], otherwise: str) -> None:
        """Tell of every key that was neither taken nor told: by its own reason, or by the general one."""
        for key in self._items:
            if key not in self._seen:
                self.tell(key, reasons.get(key, otherwise))

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def read(text: str, *, sections: Iterable[str], what: str) -> tuple[Section, Account]:
    """The top map of a file. `sections`: of which it has to have at least one; `what`: what it should be.

    Raises:
        ConfigError: it is no YAML, or no such file. Nothing of its content is repeated but its first fault's place.
    """
    try:
        yaml.safe_load(text)  # whether it is all sound; the loader below reads only what is asked for
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"This is not valid YAML{place}: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("This is not valid YAML.") from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"This is no {what}: it is not a map.")
    account = Account()
    top = Section(node, "", account=account, loader=loader)
    if not any(name in top for name in sections):
        raise ConfigError(f"This is no {what}: it has none of {', '.join(sections)}.")
    return top, account
