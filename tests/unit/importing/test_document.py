"""A file whose keys are all accounted for."""

import pytest

from narthex.core.errors import ConfigError
from narthex.importing.document import Account, Section, Told, read


def top(text: str) -> tuple[Section, Account]:
    return read(text, sections=("a", "list"), what="such file")


def told(account: Account) -> list[tuple[int, str, str]]:
    return [(one.line, one.path, one.why) for one in account.told]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "This is not valid YAML, line 1"),
        ("x: 1\na: {b: canary\n", "This is not valid YAML, line 3"),
        ("a: !!python/object:os.system {}", "This is not valid YAML, line 1"),
        ("\x00", "This is not valid YAML."),
        ("a: 2026-99-99", "This is not valid YAML."),
        ("- a", "This is no such file: it is not a map."),
        ("", "This is no such file: it is not a map."),
        ("b: 1", "This is no such file: it has none of a, list."),
    ],
)
def test_what_is_no_such_file(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        top(text)
    assert caught.value.message.startswith(message)
    assert "canary" not in caught.value.message


def test_what_is_taken_is_carried_and_what_is_left_is_told_with_its_line() -> None:
    section, account = top("a: x\nb: 2\nc: true\nd: {e: 1}\n")
    assert section.text("a") == "x"
    assert section.number("b") == 2
    assert section.flag("c") is True
    section.rest({"d": "for a reason"}, "otherwise")
    assert account.carried == {"a", "b", "c"}
    assert told(account) == [(4, "d", "for a reason")]
    assert list(section) == ["a", "b", "c", "d"]


def test_what_is_not_there_is_nothing() -> None:
    section, account = top("a:\n")
    assert (section.text("a"), section.number("b"), section.section("c")) == (None, None, None)
    assert (section.flag("d"), section.sections("e")) == (False, [])
    section.rest({}, "otherwise")
    assert told(account) == []


@pytest.mark.parametrize("value", ["[1]", "{b: 1}", "7", "'${HOME}'"])
def test_what_is_no_text_is_told(value: str) -> None:
    section, account = top(f"a: {value}")
    assert section.text("a") is None
    assert told(account) == [(1, "a", "it is not a plain text")]
    assert account.carried == set()


@pytest.mark.parametrize("value", ["[1]", "true", "soon", "-1", ".inf", ".nan"])
def test_what_is_no_number_is_told(value: str) -> None:
    section, account = top(f"a: {value}")
    assert section.number("a") is None
    assert told(account) == [(1, "a", "it is not a number that can be used")]


def test_a_number_may_stand_in_quotes() -> None:
    section, _ = top("a: '30'")
    assert section.number("a") == 30


def test_what_is_no_map_and_no_list_is_told() -> None:
    section, account = top("a: 1\nb: [x]\nlist: {c: 1}\nd: text\n")
    assert section.section("a") is None
    assert section.section("b") is None
    assert section.sections("list") == []
    assert section.sections("d") == []
    assert {line for line, _, _ in told(account)} == {1, 2, 3, 4}


def test_items_of_a_list_have_their_place_in_the_path() -> None:
    section, account = top("list:\n- b: 1\n- text\n- c: 3\n")
    first, second = section.sections("list")
    assert first.number("b") == 1
    second.rest({}, "otherwise")
    assert account.carried == {"list.0.b"}
    assert told(account) == [(3, "list.1", "it is not a map"), (4, "list.2.c", "otherwise")]


def test_what_is_left_out_as_a_whole_is_not_carried() -> None:
    section, account = top("list:\n- b: 1\n  c: 2\n")
    [item] = section.sections("list")
    assert item.number("b") == 1
    item.tell_all("for a reason")
    item.rest({}, "otherwise")
    assert account.carried == set()
    assert told(account) == [(2, "list.0", "for a reason")]


def test_a_part_of_a_value_may_be_left_out() -> None:
    section, account = top("a: [1, 2]\n")
    section.value("a")
    section.tell("a", "too much", of="1")
    section.tell("a", "too much", of="1")
    assert account.carried == {"a"}
    assert account.told == [Told(line=1, path="a.1", why="too much")]


def test_merged_maps_count_and_keys_given_twice_are_told() -> None:
    section, account = top("x: &x {b: 1, c: 2}\na: {<<: *x, c: 3}\nlist: 1\nlist: 2\n")
    for _ in range(2):
        merged = section.section("a")
    assert merged is not None
    assert (merged.number("b"), merged.number("c")) == (1, 3)
    assert section.number("list") == 2
    assert told(account) == [(3, "list", "given twice: the last one counts")]
