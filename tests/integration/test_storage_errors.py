import errno
import inspect

import apsw
import pytest

from narthex.core.errors import Conflict, NarthexError, StorageError, StorageFull
from narthex.storage.sqlite.errors import TABLE, translate

pytestmark = pytest.mark.patient


def test_the_table_names_every_error_of_the_library():
    known = {kind for _, kind in inspect.getmembers(apsw, inspect.isclass) if issubclass(kind, apsw.Error)}
    assert known - {apsw.Error} == set(TABLE)


@pytest.mark.parametrize("kind", TABLE)
def test_every_error_becomes_one_of_ours_without_its_text(kind):
    ours = translate(kind("secret detail"))
    assert isinstance(ours, NarthexError)
    assert "secret" not in ours.message


def test_an_error_that_is_not_in_the_table_is_a_fault_of_the_database():
    assert type(translate(apsw.Error())) is StorageError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_from_a_broken_one(number):
    assert type(translate(OSError(number, "x"))) is StorageFull
    assert type(translate(OSError(errno.EIO, "x"))) is StorageError


def test_something_unique_that_exists_is_a_conflict_and_any_other_constraint_a_fault_of_ours():
    connection = apsw.Connection(":memory:")
    connection.execute("create table t(a unique not null); insert into t values(1)")
    with pytest.raises(apsw.ConstraintError) as unique:
        connection.execute("insert into t values(1)")
    with pytest.raises(apsw.ConstraintError) as missing:
        connection.execute("insert into t values(null)")
    assert type(translate(unique.value, connection)) is Conflict
    assert type(translate(missing.value, connection)) is NarthexError


def test_a_closed_connection_has_no_error_number():
    connection = apsw.Connection(":memory:")
    connection.close()
    assert type(translate(apsw.IOError(), connection)) is StorageError
