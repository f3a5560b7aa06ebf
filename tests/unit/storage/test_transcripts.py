"""What was said in chats, by its id."""

from pathlib import Path

import pytest

from narthex.core.errors import StorageError
from narthex.storage.transcripts import Transcripts, is_ours, new_id


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_it_is_known_until_it_expires(tmp_path: Path) -> None:
    clock = Clock()
    kept = Transcripts(tmp_path / "t", clock=clock, kept_s=60)
    name = new_id()
    assert is_ours(name)
    assert kept.keep(name, "Grüße", account="a") == 1_000_060
    assert kept.recall(name, account="a") == "Grüße"
    assert kept.recall(name, account="b") is None
    assert Transcripts(tmp_path / "t", clock=clock, kept_s=60).recall(name, account="a") == "Grüße"
    clock.now += 61
    assert kept.recall(name, account="a") is None


def test_what_has_expired_is_deleted(tmp_path: Path) -> None:
    clock = Clock()
    kept = Transcripts(tmp_path, clock=clock, kept_s=100)
    first, second = new_id(), new_id()
    kept.keep(first, "a", account="a")
    clock.now += 101
    (tmp_path / "another").touch()
    kept.keep(second, "b", account="a")
    assert {path.name for path in tmp_path.iterdir()} == {second, "another"}


@pytest.mark.parametrize("name", ["", "audio_1", "audio_nx", "../control.db", f"{new_id()}/..", f"{new_id()}x"])
def test_other_ids_are_nobody_s(name: str, tmp_path: Path) -> None:
    assert not is_ours(name)
    assert Transcripts(tmp_path, clock=Clock(), kept_s=1).recall(name, account="a") is None


def test_ids_differ_and_one_is_not_there(tmp_path: Path) -> None:
    assert new_id() != new_id()
    kept = Transcripts(tmp_path, clock=Clock(), kept_s=1)
    assert kept.recall(new_id(), account="a") is None
    broken = new_id()
    (tmp_path / broken).write_bytes(b"{")
    assert kept.recall(broken, account="a") is None


def test_a_folder_that_can_t_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        Transcripts(tmp_path / "file", clock=Clock(), kept_s=1).keep(new_id(), "a", account="a")
