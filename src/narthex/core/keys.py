"""Accounts, projects, keys, and what a request runs as. Source: contract sections 1.9, 8.2 and 11.

Rules: deny by default (an empty `Grants` allows nothing); a key never grants more than its creator has; a secret is
shown once, stored as its digest and never printed by accident.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Literal, NoReturn, Protocol, get_args

import msgspec
from typing_extensions import override

from narthex.core.errors import InvalidRequest

Clock = Callable[[], int]
"""Milliseconds since 1970."""

Profile = Literal["openai", "thyris", "ionos", "oxy"]
PROFILES: tuple[Profile, ...] = ("openai", "thyris", "ionos", "oxy")
KeyProfile = Literal["server", "openai", "thyris", "ionos", "oxy"]
"""Of a key: one of them, or whichever is the server's own. Whom a request runs as has one of them."""

SURFACES = ("chat", "completions", "documents", "embeddings", "images", "models", "speech", "stored", "v4")
EVERYTHING = "*"
DEFAULT = "default"
ADMIN = "admin"
"""Name of the key that the first start makes."""

PREFIX_CHARS = 12
_WILD = "*?["


class Secret:
    """A key as its owner holds it. Prints as `***`; only `reveal` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def generate(cls) -> "Secret":
        """A new one: `nx-` and 43 URL-safe characters of 32 random bytes."""
        return cls("nx-" + secrets.token_urlsafe(32))

    def reveal(self) -> str:
        """The text itself: to show it to its owner, once."""
        return self._value

    @property
    def digest(self) -> bytes:
        """SHA-256, 32 bytes: all that is stored. Enough without a salt, because 256 random bits can't be guessed."""
        return hashlib.sha256(self._value.encode()).digest()

    @property
    def prefix(self) -> str:
        """The first characters, to tell keys apart in lists."""
        return self._value[:PREFIX_CHARS]

    @override
    def __repr__(self) -> str:
        return "***"

    @override
    def __str__(self) -> str:
        return "***"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.digest, other.digest)

    @override
    def __hash__(self) -> int:
        return hash(self.digest)

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret can't be serialised.")


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """What a key allows. Names in `models` and `collections` are shell patterns, matched with their case."""

    surfaces: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    templates: bool = False
    extras: bool = False
    admin: bool = False

    @classmethod
    def everything(cls) -> "Grants":
        """What the first admin key has."""
        star = (EVERYTHING,)
        return cls(surfaces=frozenset(star), models=star, collections=star, templates=True, extras=True, admin=True)

    def covers(self, other: "Grants") -> bool:
        """Whether `other` allows nothing that this doesn't. Errs on the side of no where two patterns overlap."""
        flags = ((self.templates, other.templates), (self.extras, other.extras), (self.admin, other.admin))
        return (
            (EVERYTHING in self.surfaces or other.surfaces <= self.surfaces)
            and _patterns_cover(self.models, other.models)
            and _patterns_cover(self.collections, other.collections)
            and all(mine or not theirs for mine, theirs in flags)
        )


def _patterns_cover(ours: Iterable[str], theirs: Iterable[str]) -> bool:
    return all(any(_pattern_covers(mine, wanted) for mine in ours) for wanted in theirs)


def _pattern_covers(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    head, rest = _literal_head(theirs)
    if not rest:
        return fnmatchcase(theirs, ours)
    # Two wild patterns: sure only where ours is a plain beginning and a star, as in `gpt-*` over `gpt-4*`.
    return _literal_head(ours)[1] == EVERYTHING and head.startswith(ours[:-1])


def _literal_head(pattern: str) -> tuple[str, str]:
    at = next((i for i, char in enumerate(pattern) if char in _WILD), len(pattern))
    return pattern[:at], pattern[at:]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A customer of the server: what is stored belongs to one account."""

    id: str
    name: str


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an account, with its own keys."""

    id: str
    account_id: str
    name: str


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret. Times are milliseconds since 1970; `None`: never."""

    id: str
    account_id: str
    project_id: str
    name: str
    prefix: str
    grants: Grants
    created_ms: int
    profile: KeyProfile = "openai"
    strict: bool = True
    expires_ms: int | None = None
    revoked_ms: int | None = None

    def is_live(self, now_ms: int) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a key shall be. Account and project are names and are made where they don't exist.

    Raises:
        InvalidRequest: a name is empty, longer than 100 characters or not printable; a surface is unknown.
    """

    name: str
    grants: Grants = Grants()
    profile: KeyProfile = "server"
    strict: bool = True
    expires_ms: int | None = None
    account: str = DEFAULT
    project: str = DEFAULT

    def __post_init__(self) -> None:
        for field in ("name", "account", "project"):
            value = getattr(self, field)
            if not 1 <= len(value) <= 100 or not value.isprintable():
                raise InvalidRequest(
                    f"`{field}` must have 1 to 100 printable characters.", param=field, code="invalid_value"
                )
        if unknown := sorted(self.grants.surfaces.difference(SURFACES, (EVERYTHING,))):
            raise InvalidRequest(
                f"Unknown surface `{unknown[0]}`; there are {', '.join(SURFACES)} and *.",
                param="grants.surfaces",
                code="invalid_value",
            )
        if self.profile not in get_args(KeyProfile):
            message = f"Unknown profile; there are {', '.join(get_args(KeyProfile))}."
            raise InvalidRequest(message, param="profile", code="invalid_value")


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """What a request runs as."""

    key: Key
    account: Account
    project: Project

    def may_use(self, surface: str) -> bool:
        """Whether the key is good for this surface, one of `SURFACES`."""
        surfaces = self.key.grants.surfaces
        return surface in surfaces or EVERYTHING in surfaces

    def may_use_model(self, name: str) -> bool:
        """Whether the key is good for the model of this public name."""
        patterns = self.key.grants.models
        return EVERYTHING in patterns or any(fnmatchcase(name, pattern) for pattern in patterns)

    def may_use_collection(self, name: str) -> bool:
        """Whether the key is good for this collection of its project."""
        return any(fnmatchcase(name, pattern) for pattern in self.key.grants.collections)

    @property
    def may_send_templates(self) -> bool:
        """Whether requests may bring a chat template."""
        return self.key.grants.templates

    @property
    def may_send_extras(self) -> bool:
        """Whether requests may bring extra parameters and headers for the provider."""
        return self.key.grants.extras

    @property
    def is_admin(self) -> bool:
        """Whether the key may run the server: keys, models, limits."""
        return self.key.grants.admin


class Keys(Protocol):
    """The store of keys. A change is durable and seen by the next look-up of any worker once its call returns.

    Every method raises `StorageError` when the database can't answer and, where it writes, `StorageFull`.
    """

    async def by_digest(self, digest: bytes) -> Principal | None:
        """Whose secret has this SHA-256 digest; revoked and expired keys included, so look at `key.is_live`."""
        ...

    def kept(self, digest: bytes) -> Principal | None:
        """The same, if it is at hand and surely as new as any; None: ask."""
        ...

    async def by_id(self, key_id: str) -> Principal | None:
        """Whose key has this id; revoked and expired keys included, so look at `key.is_live`."""
        ...

    async def create(self, new: NewKey, *, within: Grants) -> tuple[Key, Secret]:
        """Make a key. `within`: what its creator may do.

        Raises:
            PermissionDenied: `within` does not cover the new key's grants.
        """
        ...

    async def list(self) -> tuple[Key, ...]:
        """Every key ever made, oldest first."""
        ...

    async def revoke(self, reference: str) -> Key:
        """Revoke the key with this id, prefix or name. Does nothing to a key that is revoked already.

        Raises:
            NotFound: there is none.
            Conflict: several live keys bear this name or prefix.
        """
        ...

    async def ensure_admin(self) -> tuple[Key, Secret] | None:
        """Make the admin key unless an admin key that is not revoked exists; None then. At most one caller gets it."""
        ...

    async def reset_admin(self) -> tuple[Key, Secret]:
        """Revoke every key named `admin` and make a new one."""
        ...

    async def ping(self) -> None:
        """Return if the store answers."""
        ...
