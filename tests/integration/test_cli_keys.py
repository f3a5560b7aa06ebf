import asyncio
import os
import pty
import stat
import subprocess
import sys
import time

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from narthex.cli.backup import backup, restore
from narthex.cli.keys import app
from narthex.core.keys import Grants, Secret
from narthex.storage.adminkey import read_admin_key
from narthex.storage.sqlite.control import open_control
from narthex.supervisor import datafolder

pytestmark = pytest.mark.patient

SECRET_CHARS = 46

archives = typer.Typer()
archives.command()(backup)
archives.command()(restore)


def with_keys(data, work):
    async def run():
        store = await open_control(data / "control.db", clock=lambda: 1)
        try:
            return await work(store.keys)
        finally:
            await store.aclose()

    return asyncio.run(run())


@pytest.fixture
def data(tmp_path):
    with_keys(tmp_path, lambda keys: keys.ensure_admin())
    return tmp_path


@pytest.fixture
def run(data):
    return lambda *words, on=app: CliRunner().invoke(on, [*words, "--data", str(data)])


def principal(data, secret):
    return with_keys(data, lambda keys: keys.by_digest(Secret(secret).digest))


def test_a_key_alone_is_printed_into_a_pipe(run, data):
    result = run("create", "--name", "ci", "--surfaces", "chat, models", "--models", "gpt-*,smol", "--profile", "ionos")
    secret = result.stdout.strip()
    assert (result.exit_code, len(secret), result.stderr) == (0, SECRET_CHARS, "")
    key = principal(data, secret).key
    assert (key.name, key.profile, key.strict, key.expires_ms) == ("ci", "ionos", True, None)
    assert key.grants == Grants(surfaces=frozenset({"chat", "models"}), models=("gpt-*", "smol"), collections=("*",))


def test_an_ordinary_key_may_call_everything_and_run_nothing(run, data):
    found = principal(data, run("create").stdout.strip())
    assert found.may_use("chat")
    assert found.may_use_model("any")
    assert not found.is_admin
    assert not found.may_send_templates
    bold = run("create", "--name", "bold", "--templates").stdout.strip()
    assert principal(data, bold).may_send_templates
    assert "+ templates" in next(line for line in run("list").stdout.splitlines() if "bold" in line)


def test_a_key_may_be_admin_lenient_and_expire(run, data):
    before = time.time_ns() // 1_000_000
    key = principal(data, run("create", "--admin", "--lenient", "--expires", "30d").stdout.strip()).key
    assert key.grants == Grants.everything()
    assert not key.strict
    assert 0 <= key.expires_ms - before - 30 * 86_400_000 < 60_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--expires", "soon"], "30d"),
        (["--expires", "0d"], "30d"),
        (["--profile", "azure"], "openai"),
        (["--surfaces", "chats"], "Unknown surface `chats`"),
        (["--name", ""], "`name` must have"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(run, words, said):
    result = run("create", *words)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert result.stdout == ""


def test_a_folder_without_a_database_is_an_error_and_stays_empty(tmp_path):
    result = CliRunner().invoke(app, ["create", "--data", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no database" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_keys_are_listed_without_their_secrets(run, data):
    secret = run("create", "--name", "[red]ci", "--models", "a[b]*").stdout.strip()
    run("create", "--name", "brief", "--expires", "1h")
    run("create", "--name", "gone")
    run("revoke", "gone")
    table = run("list").stdout
    assert [word in table for word in ("[red]ci", "a[b]*", "admin", "good until", "revoked")] == [True] * 5
    assert secret not in table
    listed = msgspec.json.decode(run("list", "--json").stdout)
    assert [key["name"] for key in listed] == ["admin", "[red]ci", "brief", "gone"]
    assert listed[1]["prefix"] == secret[:12]
    assert secret not in run("list", "--json").stdout


def test_an_expired_key_is_listed_as_such(run, data):
    run("create", "--name", "brief", "--expires", "1s")
    with_keys(data, lambda keys: keys._database.write(lambda c: c.execute("update api_key set expires_ms = 5")))
    assert "expired 1970-01-01" in run("list").stdout


def test_a_revoked_key_is_revoked_while_the_server_runs(run, data):
    async def served():
        store = await open_control(data / "control.db", clock=lambda: 1)
        try:
            secret = (await asyncio.to_thread(run, "create", "--name", "ci")).stdout.strip()
            before = await store.keys.by_digest(Secret(secret).digest)
            said = await asyncio.to_thread(run, "revoke", before.key.prefix)
            return before, await store.keys.by_digest(Secret(secret).digest), said
        finally:
            await store.aclose()

    before, after, said = asyncio.run(served())
    assert before.key.revoked_ms is None
    assert after.key.revoked_ms is not None
    assert said.stdout == f"Revoked ci ({before.key.prefix}…).\n"


def test_a_key_that_is_not_there_can_not_be_revoked(run):
    result = run("revoke", "nobody")
    assert result.exit_code == 1
    assert "`nobody`" in result.stderr


def test_reset_admin_makes_the_only_admin_key_and_writes_it(run, data):
    result = run("reset-admin")
    secret = result.stdout.strip()
    assert principal(data, secret).is_admin
    assert read_admin_key(data) == Secret(secret)
    assert stat.S_IMODE((data / "admin.key").stat().st_mode) == 0o600
    assert secret not in result.stderr
    states = [key.revoked_ms is None for key in with_keys(data, lambda keys: keys.list())]
    assert states == [False, True]


def test_reset_admin_shows_the_key_that_it_could_not_write(run, data):
    (data / "admin.key").mkdir()
    result = run("reset-admin")
    assert result.exit_code == 1
    assert principal(data, result.stdout.strip()).is_admin


def test_a_terminal_gets_a_hint_with_the_key(data):
    ours, theirs = pty.openpty()
    child = subprocess.run(
        [sys.executable, "-c", "from narthex.cli.keys import app; app()", "create", "--data", str(data)],
        stdout=theirs,
        stderr=theirs,
        check=False,
        timeout=60,
    )
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert child.returncode == 0
    assert "not shown again" in said
    assert principal(data, said.split()[0]).key.name == "key"


def test_a_backup_is_taken_and_restored(run, data, tmp_path):
    archive, fresh = tmp_path / "a.tar.gz", tmp_path / "fresh"
    saved = run("backup", str(archive), on=archives)
    assert saved.stdout.startswith("Saved 1 files"), saved.output
    words = ["restore", str(archive), "--data", str(fresh)]
    assert CliRunner().invoke(archives, words).exit_code == 0
    again = CliRunner().invoke(archives, words)
    assert (again.exit_code, "not empty" in again.stderr) == (1, True)
    assert CliRunner().invoke(archives, [*words, "--force"]).exit_code == 0
    assert [key.name for key in with_keys(fresh, lambda keys: keys.list())] == ["admin"]


def test_a_folder_in_use_is_not_restored_into(run, data, tmp_path):
    archive = tmp_path / "a.tar.gz"
    run("backup", str(archive), on=archives)
    with datafolder.lock(data):
        result = run("restore", str(archive), "--force", on=archives)
    assert result.exit_code == 1
    assert f"in use by process {os.getpid()}" in result.stderr
    assert not list(data.glob("replaced-*"))


def test_help_says_what_is_not_saved():
    assert "Model files are not in it" in CliRunner().invoke(archives, ["backup", "--help"]).stdout
