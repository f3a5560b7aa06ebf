"""Who asks, and what they may. Source: contract sections 1.9, 8.2 and 11.

Rules: a database that can't answer is a 503 and never a 401; what a key may not use does not exist for it.
"""

import hashlib
from collections.abc import Collection, Mapping

from msgspec.structs import replace

from narthex.core.errors import AuthenticationFailed, ModelNotFound, PermissionDenied
from narthex.core.keys import Clock, Keys, Principal, Profile

MAX_VALUE_BYTES = 512
_SHOWN_CHARS = 7
_BEARER = b"Bearer "
_MOST_KEPT = 10_000


class KeyRefused(AuthenticationFailed):
    """Incorrect API key provided."""

    default_code = "invalid_api_key"

    def __init__(self, message: str | None = None, *, profile: Profile | None = None) -> None:
        """`profile`: of the key, where it is known but revoked or expired; a dialect may shape the answer by it."""
        super().__init__(message)
        self.profile = profile


class Authenticator:
    """Finds the principal of a request. A revoked key ends with the next request: see docs/design/keys.md."""

    def __init__(self, keys: Keys, *, clock: Clock, profile: Profile = "openai") -> None:
        """`profile`: of keys that have the server's."""
        self._keys = keys
        self._clock = clock
        self._profile = profile
        self._narrowed: dict[str, tuple[Principal, Principal]] = {}

    async def authenticate(self, headers: Collection[tuple[bytes, bytes]]) -> Principal:
        """The principal of a request with these headers (names in lower case, as ASGI gives them).

        Raises:
            AuthenticationFailed: no key was sent; code null.
            KeyRefused: the key is wrong, revoked or expired, or two different ones were sent.
            StorageError: the database can't answer.
        """
        token = _token(headers)
        principal = await self._keys.by_digest(hashlib.sha256(token).digest())
        if principal is None:
            raise KeyRefused(_incorrect(token))
        key = principal.key
        if not key.is_live(self._clock()):
            reason = "It was revoked." if key.revoked_ms is not None else "It has expired."
            own = None if key.profile == "server" else key.profile
            raise KeyRefused(f"{_incorrect(token)} {reason}", profile=own)
        return principal if key.profile != "server" else self._as_here(principal)

    def known(self, digest: bytes) -> Principal | None:
        """The same by a key's digest, where nothing has to be waited for, and nothing is wrong.

        None: `authenticate` will tell.
        """
        principal = self._keys.kept(digest)
        if principal is None or not principal.key.is_live(self._clock()):
            return None
        return principal if principal.key.profile != "server" else self._as_here(principal)

    def _as_here(self, principal: Principal) -> Principal:
        """The same with the server's profile."""
        key = principal.key
        before, narrowed = self._narrowed.get(key.id, (None, principal))
        if before is not principal:
            if len(self._narrowed) >= _MOST_KEPT:
                self._narrowed.clear()
            narrowed = replace(principal, key=replace(key, profile=self._profile))
            self._narrowed[key.id] = principal, narrowed
        return narrowed


def usual_digest(headers: Collection[tuple[bytes, bytes]], named: Mapping[bytes, bytes]) -> bytes | None:
    """The digest of the key in headers, if it came as it usually does. `named`: the first header of each name."""
    sent, alone = named.get(b"authorization", b""), named.get(b"x-api-key")
    if len(named) != len(headers):
        return None
    if alone is None and sent.startswith(_BEARER):
        token = sent[len(_BEARER) :]
    elif alone is not None and not sent:
        token = alone
    else:
        return None
    return hashlib.sha256(token).digest()


def authorize(principal: Principal, *, surface: str, model: str | None = None) -> None:
    """Return if the principal may use this surface and, where one is named, this model.

    Raises:
        PermissionDenied: the surface is not granted.
        ModelNotFound: the model is not granted; it must read as for a model that doesn't exist.
    """
    if not principal.may_use(surface):
        raise PermissionDenied
    if model is not None:
        authorize_model(principal, model)


def authorize_model(principal: Principal, model: str) -> None:
    """Return if the principal may use this model.

    Raises:
        ModelNotFound: it is not granted; it must read as for a model that doesn't exist.
    """
    if not principal.may_use_model(model):
        raise ModelNotFound.named(model)


def authorize_admin(principal: Principal) -> None:
    """Return if the principal may run the server.

    Raises:
        PermissionDenied: it may not.
    """
    if not principal.is_admin:
        raise PermissionDenied


def _token(headers: Collection[tuple[bytes, bytes]]) -> bytes:
    named = dict(headers)
    if len(named) == len(headers) and b"x-api-key" not in named:  # nearly always
        token = _of_bearer(named.get(b"authorization", b""))
    else:
        sent = {_of_bearer(value) for name, value in headers if name == b"authorization"}
        sent |= {value.strip() for name, value in headers if name == b"x-api-key"}
        sent.discard(b"")
        if len(sent) > 1:
            raise KeyRefused("Two different API keys were sent: send one.")
        token = sent.pop() if sent else b""
    if not token:
        raise AuthenticationFailed
    if len(token) > MAX_VALUE_BYTES or not token.isascii() or not token.decode("ascii").isprintable():
        raise KeyRefused
    return token


def _of_bearer(value: bytes) -> bytes:
    scheme, _, token = value.strip().partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _incorrect(token: bytes) -> str:
    # Of a short text, seven characters would be too much: it may be a password.
    return f"Incorrect API key provided: {token[: min(_SHOWN_CHARS, len(token) // 4)].decode('ascii')}***."
