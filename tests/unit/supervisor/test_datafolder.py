"""The data folder as a whole: its lock, its stamp, its folder of sockets."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from narthex.core.errors import ConfigError
from narthex.supervisor import datafolder
from narthex.supervisor.plan import SOCKET_PATH_BYTES, Stamp


def test_a_second_lock_names_the_holder(tmp_path: Path) -> None:
    with datafolder.lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
        with pytest.raises(ConfigError, match=f"is in use by process {os.getpid()}."):
            datafolder.lock(tmp_path / "a" / "b")
    datafolder.lock(tmp_path / "a" / "b").close()


def test_a_holder_that_has_not_signed_yet_is_another_process(tmp_path: Path) -> None:
    with datafolder.lock(tmp_path):
        (tmp_path / "lock").write_text("")
        with pytest.raises(ConfigError, match="in use by another process"):
            datafolder.lock(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be used"):
        datafolder.lock(tmp_path / "file")


def test_a_lock_is_held_across_exec(tmp_path: Path) -> None:
    held = datafolder.lock(tmp_path)
    code = (
        "import sys, pathlib; from narthex.supervisor import datafolder\n"
        "datafolder.adopt(int(sys.argv[1]), pathlib.Path(sys.argv[2])); print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(held.pass_on()), str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(held.fd,)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        held.close()
        with pytest.raises(ConfigError, match=f"in use by process {process.pid}"):
            datafolder.lock(tmp_path)
        process.communicate()
    datafolder.lock(tmp_path).close()


def test_a_foreign_descriptor_is_no_lock(tmp_path: Path) -> None:
    datafolder.lock(tmp_path).close()
    with (tmp_path / "other").open("w") as other, pytest.raises(ConfigError, match="not the lock"):
        datafolder.adopt(other.fileno(), tmp_path)
    with pytest.raises(ConfigError, match="not the lock"):
        datafolder.adopt(9999, tmp_path)


def test_a_newer_program_upgrades_the_stamp(tmp_path: Path) -> None:
    datafolder.stamp(tmp_path, Stamp(schema=1, program="0.1.0"))
    datafolder.stamp(tmp_path, Stamp(schema=2, program="0.2.0"))
    assert (tmp_path / "version.json").read_bytes() == b'{"schema":2,"program":"0.2.0"}\n'


def test_the_same_program_leaves_the_stamp_alone(tmp_path: Path) -> None:
    datafolder.stamp(tmp_path, Stamp(schema=1, program="0.1.0"))
    before = (tmp_path / "version.json").stat()
    datafolder.stamp(tmp_path, Stamp(schema=1, program="0.1.0"))
    assert (tmp_path / "version.json").stat().st_ino == before.st_ino


def test_an_older_program_is_refused(tmp_path: Path) -> None:
    datafolder.stamp(tmp_path, Stamp(schema=5, program="0.9.0"))
    with pytest.raises(ConfigError, match=r"written by Narthex 0\.9\.0 \(schema 5\); this is Narthex 0\.1\.0"):
        datafolder.stamp(tmp_path, Stamp(schema=3, program="0.1.0"))
    assert b"0.9.0" in (tmp_path / "version.json").read_bytes()


def test_a_broken_stamp_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "version.json").write_text("{")
    with pytest.raises(ConfigError, match=r"version\.json can't be read"):
        datafolder.stamp(tmp_path, Stamp(schema=3, program="0.1.0"))
    assert (tmp_path / "version.json").read_text() == "{"


def deep(folder: Path) -> Path:
    made = folder / ("x" * 120)
    made.mkdir()
    return made


def test_sockets_live_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(tempfile.mkdtemp(prefix="n"))
    try:
        run = datafolder.run_dir(data)
        assert run == data / "run"
        assert run.stat().st_mode & 0o777 == 0o700
        monkeypatch.chdir(data.parent)
        assert datafolder.run_dir(Path(data.name)) == run
        datafolder.discard_run_dir(data)
        assert run.is_dir()
    finally:
        shutil.rmtree(data)


def test_a_long_path_gets_a_temporary_folder_which_is_found_again(tmp_path: Path) -> None:
    data = deep(tmp_path)
    run = datafolder.run_dir(data)
    assert len(os.fsencode(run)) + 60 < SOCKET_PATH_BYTES
    assert run.stat().st_mode & 0o777 == 0o700
    assert datafolder.find_run_dir(data) == run
    assert datafolder.run_dir(data) == run
    datafolder.discard_run_dir(data)
    assert not run.exists()
    assert not (data / "run").is_symlink()


def test_a_temporary_folder_that_others_may_read_is_not_used_again(tmp_path: Path) -> None:
    data = deep(tmp_path)
    exposed = tmp_path / "exposed"
    exposed.mkdir(mode=0o755)
    (data / "run").symlink_to(exposed)
    run = datafolder.run_dir(data)
    assert run != exposed
    datafolder.discard_run_dir(data)
    assert exposed.is_dir()


def test_a_folder_that_moved_to_a_longer_path(tmp_path: Path) -> None:
    data = deep(tmp_path)
    (data / "run").mkdir()
    (data / "run" / "supervisor.sock").touch()
    assert datafolder.run_dir(data) == datafolder.find_run_dir(data)
    datafolder.discard_run_dir(data)


def test_a_link_whose_target_is_gone(tmp_path: Path) -> None:
    data = deep(tmp_path)
    (data / "run").symlink_to(tmp_path / "gone")
    assert datafolder.run_dir(data).is_dir()
    datafolder.discard_run_dir(data)
