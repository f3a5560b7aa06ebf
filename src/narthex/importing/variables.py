"""Environment variables instead of secrets: the written file names them, and never holds what they hold."""

import re

_THEIRS = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")


class Variables:
    """The variables that the written file refers to. `named`: those that the file that is read speaks of."""

    def __init__(self, text: str) -> None:
        self.named = frozenset(_THEIRS.findall(text))
        self.literal: dict[str, int] = {}
        self.used: set[str] = set()
        self._of_secret: dict[tuple[str, str], str] = {}

    def reference(self, text: str) -> str | None:
        """`${NAME}` for `os.environ/NAME`; None for anything else."""
        found = _THEIRS.fullmatch(text.strip())
        return None if found is None else self.use(found[1])

    def use(self, name: str) -> str:
        """`${NAME}`."""
        self.used.add(name)
        return f"${{{name}}}"

    def secret(self, value: str, *, of: str, line: int) -> str:
        """`${NAME}` for a secret that stood in the file. The same secret of the same kind of server has one name.

        `of`: the kind of server; `line`: where it stands. `literal` tells that line by the variable's name.
        """
        if (of, value) not in self._of_secret:
            self._of_secret[of, value] = self._free(re.sub(r"[^A-Z0-9]+", "_", of.upper()))
            self.literal[self._of_secret[of, value]] = line
        return self.use(self._of_secret[of, value])

    def _free(self, stem: str) -> str:
        number, name = 1, f"{stem}_API_KEY"
        while name in self.named or name in self.literal or name in self.used:
            number += 1
            name = f"{stem}_{number}_API_KEY"
        return name
