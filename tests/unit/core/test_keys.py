import json
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.errors import InvalidRequest
from narthex.core.keys import Account, Grants, Key, NewKey, Principal, Project, Secret


def principal(**grants: object) -> Principal:
    key = Key(
        id="k",
        account_id="a",
        project_id="p",
        name="n",
        prefix="nx-",
        created_ms=0,
        grants=msgspec.convert(grants, Grants),
    )
    return Principal(
        key=key, account=Account(id="a", name="default"), project=Project(id="p", account_id="a", name="default")
    )


def test_a_secret_has_256_random_bits_and_a_prefix_to_show():
    secret, other = Secret.generate(), Secret.generate()
    assert len(secret.reveal()) == 46
    assert secret.reveal().startswith("nx-")
    assert secret.prefix == secret.reveal()[:12]
    assert len(secret.digest) == 32
    assert secret != other
    assert secret == Secret(secret.reveal())
    assert hash(secret) == hash(Secret(secret.reveal()))
    assert secret != secret.reveal()


def test_a_secret_is_never_printed_or_serialised():
    secret = Secret("nx-very-secret")
    assert {repr(secret), str(secret), f"{secret}", "%s" % secret, repr([secret])} == {"***", "[***]"}  # noqa: UP031
    for serialise in (msgspec.json.encode, msgspec.msgpack.encode, json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            serialise(secret)  # type: ignore[operator]


def test_empty_grants_allow_nothing():
    nobody = principal()
    assert not nobody.may_use("chat")
    assert not nobody.may_use_model("m")
    assert not nobody.may_use_collection("c")
    assert not nobody.may_send_templates
    assert not nobody.may_send_extras
    assert not nobody.is_admin


def test_grants_allow_what_they_name():
    some = principal(surfaces=["chat"], models=["gpt-4*", "smol"], collections=["team-?"])
    assert some.may_use("chat")
    assert not some.may_use("images")
    assert [some.may_use_model(name) for name in ("gpt-4o", "smol", "gpt-3", "SMOL")] == [True, True, False, False]
    assert some.may_use_collection("team-a")
    assert not some.may_use_collection("team-ab")


def test_the_first_admin_key_may_do_everything():
    admin = principal(**msgspec.to_builtins(Grants.everything()))
    assert admin.may_use("v4")
    assert admin.may_use_model("anything/at:all")
    assert admin.may_use_collection("x")
    assert admin.may_send_templates
    assert admin.may_send_extras
    assert admin.is_admin


@pytest.mark.parametrize(
    ("mine", "wanted", "covered"),
    [
        (Grants(), Grants(), True),
        (Grants.everything(), Grants.everything(), True),
        (Grants(surfaces=frozenset({"chat"})), Grants(surfaces=frozenset({"*"})), False),
        (Grants(surfaces=frozenset({"*"})), Grants(surfaces=frozenset({"chat"})), True),
        (Grants(surfaces=frozenset({"chat"})), Grants(surfaces=frozenset({"chat", "v4"})), False),
        (Grants(models=("gpt-*",)), Grants(models=("gpt-4*", "gpt-3")), True),
        (Grants(models=("gpt-*",)), Grants(models=("*",)), False),
        (Grants(models=("a?c",)), Grants(models=("a*c",)), False),
        (Grants(models=("a?c",)), Grants(models=("a?c", "abc")), True),
        (Grants(models=("gpt-4",)), Grants(models=("gpt-4o",)), False),
        (Grants(collections=("x",)), Grants(collections=("y",)), False),
        (Grants(templates=True), Grants(templates=True), True),
        (Grants(), Grants(templates=True), False),
        (Grants(), Grants(extras=True), False),
        (Grants(surfaces=frozenset({"*"}), models=("*",)), Grants(admin=True), False),
    ],
)
def test_a_key_covers_only_what_it_has(mine, wanted, covered):
    assert mine.covers(wanted) is covered


PATTERNS = st.text("ab*?[]!", max_size=5)


@given(st.lists(PATTERNS, max_size=3), st.lists(PATTERNS, max_size=3), st.text("ab[]!", max_size=6))
def test_what_is_covered_never_allows_more(mine, wanted, name):
    if Grants(models=tuple(mine)).covers(Grants(models=tuple(wanted))) and principal(models=wanted).may_use_model(name):
        assert principal(models=mine).may_use_model(name)


@pytest.mark.parametrize(
    ("expires", "revoked", "live"), [(None, None, True), (11, None, True), (10, None, False), (None, 5, False)]
)
def test_a_key_is_live_until_it_expires_or_is_revoked(expires, revoked, live):
    key = msgspec.structs.replace(principal().key, expires_ms=expires, revoked_ms=revoked)
    assert key.is_live(10) is live


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "n", "account": ""}, "account"),
        ({"name": "n", "project": "\x00"}, "project"),
        ({"name": "n", "grants": Grants(surfaces=frozenset({"chats"}))}, "grants.surfaces"),
        ({"name": "n", "profile": "azure"}, "profile"),
    ],
)
def test_a_new_key_is_checked(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        NewKey(**fields)
    assert caught.value.param == param


def test_a_new_key_allows_nothing_by_default():
    assert NewKey(name="n").grants == Grants()
