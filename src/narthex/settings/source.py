"""The settings file: its content with environment variables put in, and where in it each setting stands."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from narthex.settings import faults
from narthex.settings.faults import Fault

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HIDDEN = re.compile("\\$\ue001([A-Za-z_][A-Za-z0-9_]*)\ue002")
"""A variable while YAML is read: inside `{…}` and `[…]` its braces would end the text. As long as it was, so that every
column stays what it is."""
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class Source:
    """One file, or none at all. `content` is what could be read, `faults` what is wrong with it so far.

    A variable that is not set is a fault, and its name stays in the text; `unset` are the places of those.
    """

    def __init__(self, file: Path | None, environment: Mapping[str, str]) -> None:
        self.name = "" if file is None else str(file)
        self.content: dict[str, Any] = {}
        self.faults: list[Fault] = []
        self.unset: list[faults.Path] = []
        self._environment = environment
        self._root: yaml.Node | None = None
        self._seen: set[int] = set()
        if file is not None:
            self._read(file)

    @property
    def is_lost(self) -> bool:
        """Whether there is a file and nothing of it could be read."""
        return bool(self.faults) and self._root is None

    def fault(self, path: faults.Path, message: str) -> Fault:
        """A fault of the setting at `path`, with its place where it stands in this file."""
        mark = self._mark(path)
        return self._at(mark, message, path=path) if mark else Fault(path=_dotted(path), message=message)

    def excuses(self, path: faults.Path) -> bool:
        """Whether a variable that is not set may be all that is wrong there."""
        return any(path[: len(unset)] == unset for unset in self.unset)

    def _at(self, mark: yaml.Mark, message: str, *, path: faults.Path = ()) -> Fault:
        return Fault(path=_dotted(path), message=message, file=self.name, line=mark.line + 1, column=mark.column + 1)

    def _whole(self, message: str) -> None:
        self.faults.append(Fault(path="", message=message, file=self.name))

    # --- reading

    def _read(self, file: Path) -> None:
        try:
            self._load(_VARIABLE.sub("$\ue001\\1\ue002", file.read_text(encoding="utf-8")))
        except OSError as error:
            self._whole(str(error.strerror))
        except yaml.MarkedYAMLError as error:  # its own text quotes the file, which may hold secrets
            message = f"not valid YAML: {_shown(error.problem or error.context or '')}"
            mark = error.problem_mark or error.context_mark
            self.faults.append(self._at(mark, message)) if mark else self._whole(message)
        except (yaml.YAMLError, UnicodeDecodeError):
            self._whole("not valid YAML: it is not a text in UTF-8")
        except RecursionError:
            self._whole("not valid YAML: nested too deeply")
        except ValueError:  # a number or a date that is none; its text is not repeated
            self._whole("not valid YAML: a value can't be read as what it seems to be")

    def _load(self, text: str) -> None:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return
            if not isinstance(root, yaml.MappingNode):
                self.faults.append(self._at(root.start_mark, "the file must hold a map of settings"))
                return
            self._root = root
            self._walk(root, ())
            self.content = loader.construct_document(root)
        finally:
            loader.dispose()
        keys: list[Any] = list(self.content)
        for key in filter(lambda key: not isinstance(key, str), keys):
            del self.content[key]
            self.faults.append(self.fault((str(key)[:100],), "there is no such setting"))

    def _walk(self, node: yaml.Node, path: faults.Path) -> None:
        if id(node) in self._seen:  # an alias: it was looked at where it is defined
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for part, value in self._entries(node, path):
                self._walk(value, (*path, part))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk(value, (*path, index))
        elif node.tag == _TEXT:
            node.value = self._filled_in(node, path)

    def _entries(self, node: yaml.MappingNode, path: faults.Path) -> Iterator[tuple[str, yaml.Node]]:
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.value = _shown(key.value)
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name and key.tag != _MERGE:
                if (key.tag, name) in lines:
                    message = f"stands here for the second time, after line {lines[key.tag, name]}"
                    self.faults.append(self._at(key.start_mark, message, path=(*path, name)))
                lines.setdefault((key.tag, name), key.start_mark.line + 1)
            yield name, value

    def _filled_in(self, node: yaml.Node, path: faults.Path) -> str:
        def variable(match: re.Match[str]) -> str:
            if (value := self._environment.get(match[1])) is not None:
                return value
            self.unset.append(path)
            self.faults.append(self._at(node.start_mark, f"the environment variable {match[1]} is not set", path=path))
            return _shown(match[0])

        return _HIDDEN.sub(variable, node.value)

    def _mark(self, path: faults.Path) -> yaml.Mark | None:
        """Where the setting stands, or what of its place there is."""
        node, mark = self._root, None
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value == str(part)]
                if not found:
                    break
                mark, node = found[-1][0].start_mark, found[-1][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                mark = node.start_mark
            else:
                break
        return mark


def _shown(text: str) -> str:
    """A text with its variables as they were written."""
    return _HIDDEN.sub(r"${\1}", text)


def _dotted(path: faults.Path) -> str:
    return ".".join(map(str, path))
