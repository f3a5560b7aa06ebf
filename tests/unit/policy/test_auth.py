import msgspec
import pytest

from narthex.core.errors import AuthenticationFailed, ModelNotFound, PermissionDenied, StorageError
from narthex.core.keys import Account, Grants, Key, Principal, Project, Secret
from narthex.policy import auth
from narthex.policy.auth import Authenticator, KeyRefused, authorize, authorize_admin, usual_digest

pytestmark = pytest.mark.anyio

SECRET = Secret("nx-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG")
KEY = SECRET.reveal().encode()
KEY_RECORD = Key(
    id="k",
    account_id="a",
    project_id="p",
    name="n",
    prefix=SECRET.prefix,
    created_ms=0,
    grants=Grants(surfaces=frozenset({"chat"}), models=("m*",)),
)
PRINCIPAL = Principal(
    key=KEY_RECORD, account=Account(id="a", name="default"), project=Project(id="p", account_id="a", name="default")
)


class OneKey:
    """Knows one key; or can't answer."""

    def __init__(self, principal: Principal = PRINCIPAL, *, failure: Exception | None = None) -> None:
        self.principal = principal
        self.failure = failure

    async def by_digest(self, digest: bytes) -> Principal | None:
        if self.failure is not None:
            raise self.failure
        return self.kept(digest)

    def kept(self, digest: bytes) -> Principal | None:
        return self.principal if digest == SECRET.digest else None


def authenticator(keys: OneKey | None = None) -> Authenticator:
    return Authenticator(keys or OneKey(), clock=lambda: 1_000)


def replaced(**fields: object) -> OneKey:
    return OneKey(msgspec.structs.replace(PRINCIPAL, key=msgspec.structs.replace(KEY_RECORD, **fields)))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + KEY)],
        [(b"authorization", b"bEARER   " + KEY + b" ")],
        [(b"x-api-key", KEY)],
        [(b"host", b"x"), (b"x-api-key", KEY), (b"authorization", b"Bearer " + KEY)],
        [(b"x-api-key", KEY), (b"authorization", KEY)],
        [(b"x-api-key", KEY), (b"authorization", b"Basic dTpw")],
        [(b"x-api-key", b""), (b"authorization", b"Bearer " + KEY)],
    ],
)
async def test_a_key_is_taken_from_either_header(headers):
    assert await authenticator().authenticate(headers) == PRINCIPAL


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", KEY)],
        [(b"authorization", b"Basic " + KEY)],
        [(b"x-api-key", b" ")],
    ],
)
async def test_no_key_is_a_401_without_code(headers):
    with pytest.raises(AuthenticationFailed) as caught:
        await authenticator().authenticate(headers)
    assert (caught.value.status, caught.value.code) == (401, None)
    assert "didn't provide an API key" in caught.value.message


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"nx-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFX", "nx-abcd***."),
        (b"hunter22", "hu***."),
        (b"x", "provided: ***."),
        (b"nx-\xc3\xa9" + KEY, "Incorrect API key provided."),
        (b"nx-\xff\xfe", "Incorrect API key provided."),
        (b"nx-\x00\x01", "Incorrect API key provided."),
        (b"n" * 100_000, "Incorrect API key provided."),
    ],
)
@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_a_wrong_key_is_a_401_that_shows_little_of_it(value, shown, header):
    sent = b"Bearer " + value if header == "authorization" else value
    with pytest.raises(KeyRefused) as caught:
        await authenticator().authenticate([(header.encode(), sent)])
    assert (caught.value.status, caught.value.code, caught.value.profile) == (401, "invalid_api_key", None)
    assert caught.value.message.endswith(shown)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + KEY), (b"x-api-key", b"other")],
        [(b"x-api-key", KEY), (b"x-api-key", b"other")],
        [(b"authorization", b"Bearer " + KEY), (b"authorization", b"Bearer other")],
    ],
)
async def test_two_different_keys_are_a_401(headers):
    with pytest.raises(KeyRefused) as caught:
        await authenticator().authenticate(headers)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("fields", "reason"), [({"revoked_ms": 1}, "It was revoked."), ({"expires_ms": 1_000}, "It has expired.")]
)
async def test_a_key_that_has_ended_is_a_401_with_its_profile(fields, reason):
    with pytest.raises(KeyRefused, match=reason) as caught:
        await authenticator(replaced(profile="ionos", **fields)).authenticate([(b"x-api-key", KEY)])
    assert caught.value.profile == "ionos"
    assert "nx-abcd***" in caught.value.message
    assert SECRET.reveal()[7:] not in caught.value.message


async def test_a_database_that_can_not_answer_is_not_a_401():
    with pytest.raises(StorageError):
        await authenticator(OneKey(failure=StorageError())).authenticate([(b"x-api-key", KEY)])


async def test_what_is_granted_passes():
    authorize(PRINCIPAL, surface="chat")
    authorize(PRINCIPAL, surface="chat", model="m1")


async def test_a_surface_that_is_not_granted_is_a_403():
    with pytest.raises(PermissionDenied):
        authorize(PRINCIPAL, surface="images", model="m1")


async def test_a_model_that_is_not_granted_reads_like_one_that_does_not_exist():
    with pytest.raises(ModelNotFound) as caught:
        authorize(PRINCIPAL, surface="chat", model="x")
    unknown = ModelNotFound.named("x")
    assert (caught.value.param, caught.value.message) == (unknown.param, unknown.message)


async def test_only_an_admin_runs_the_server():
    with pytest.raises(PermissionDenied):
        authorize_admin(PRINCIPAL)
    authorize_admin(replaced(grants=Grants(admin=True)).principal)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer " + KEY)], True),
        ([(b"x-api-key", KEY)], True),
        ([(b"x-api-key", KEY), (b"x-selected-account-id", b"other"), (b"x-openai-api-key", b"sk-other")], True),
        ([(b"x-api-key", b"")], False),
        ([(b"x-api-key", KEY[:-1])], False),
        ([(b"x-api-key", KEY), (b"x-api-key", KEY)], False),
        ([(b"x-api-key", KEY), (b"authorization", b"Bearer " + KEY)], False),
        ([(b"authorization", b"bearer " + KEY)], False),
        ([], False),
    ],
)
async def test_a_key_is_at_hand_where_it_came_as_it_usually_does(headers, found):
    digest = usual_digest(headers, dict(reversed(headers)))
    at_hand = None if digest is None else authenticator(OneKey()).known(digest)
    assert at_hand == (PRINCIPAL if found else None)


async def test_a_key_that_has_ended_is_not_at_hand():
    principal = msgspec.structs.replace(PRINCIPAL, key=msgspec.structs.replace(KEY_RECORD, revoked_ms=1))
    assert authenticator(OneKey(principal)).known(SECRET.digest) is None


@pytest.mark.parametrize("fields", [{}, {"revoked_ms": 1}])
async def test_a_key_without_a_profile_has_the_servers(fields):
    keys = replaced(profile="server", **fields)
    found = Authenticator(keys, clock=lambda: 1_000, profile="oxy")
    headers = [(b"x-api-key", KEY)]
    if fields:
        with pytest.raises(KeyRefused) as caught:
            await found.authenticate(headers)
        assert caught.value.profile is None  # so that its answer is as for a key that nobody knows
        return
    principal = await found.authenticate(headers)
    assert principal.key.profile == "oxy"
    assert await found.authenticate(headers) is principal
    assert found.known(SECRET.digest) is principal
    other = Authenticator(keys, clock=lambda: 1_000)
    assert (await other.authenticate(headers)).key.profile == "openai"
    own = Authenticator(replaced(profile="ionos"), clock=lambda: 1_000, profile="oxy")
    assert (await own.authenticate(headers)).key.profile == "ionos"


async def test_a_key_that_changed_is_looked_at_anew(monkeypatch):
    monkeypatch.setattr(auth, "_MOST_KEPT", 1)
    keys = replaced(profile="server")
    found = Authenticator(keys, clock=lambda: 1_000, profile="oxy")
    headers = [(b"x-api-key", KEY)]
    assert (await found.authenticate(headers)).key.strict
    keys.principal = msgspec.structs.replace(
        keys.principal, key=msgspec.structs.replace(keys.principal.key, strict=False)
    )
    assert not (await found.authenticate(headers)).key.strict
