"""What SQLite and the disk say, in our words. Classified by exception class and error number, never by message."""

import errno

import apsw

from narthex.core.errors import Conflict, NarthexError, StorageError, StorageFull

_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNIQUE = frozenset({apsw.SQLITE_CONSTRAINT_UNIQUE, apsw.SQLITE_CONSTRAINT_PRIMARYKEY, apsw.SQLITE_CONSTRAINT_ROWID})

_BUSY = "The database is busy."
_DAMAGED = "The database file is damaged: restore a backup."
_DISK = "The disk could not be read or written."
_FAULTY = "The database failed."

TABLE: dict[type[apsw.Error], tuple[type[NarthexError], str | None]] = {
    # what an operator can meet
    apsw.FullError: (StorageFull, None),
    apsw.IOError: (StorageError, _DISK),  # or full, by its error number
    apsw.CantOpenError: (StorageError, "The database file can't be opened."),  # likewise
    apsw.BusyError: (StorageError, _BUSY),
    apsw.LockedError: (StorageError, _BUSY),
    apsw.ProtocolError: (StorageError, _BUSY),
    apsw.CorruptError: (StorageError, _DAMAGED),
    apsw.NotADBError: (StorageError, "This file is not a database, or it is damaged: restore a backup."),
    apsw.FormatError: (StorageError, _DAMAGED),
    apsw.EmptyError: (StorageError, _DAMAGED),
    apsw.PermissionsError: (StorageError, "The database file may not be read or written by this user."),
    apsw.ReadOnlyError: (StorageError, "The database file or its folder is read-only."),
    apsw.AuthError: (StorageError, _FAULTY),
    apsw.NoMemError: (StorageError, "The database ran out of memory."),
    apsw.NoLFSError: (StorageError, "The file system can't hold files this large."),
    apsw.InterruptError: (StorageError, "The query was stopped."),
    apsw.AbortError: (StorageError, "The query was stopped."),
    apsw.SchemaChangeError: (StorageError, "The database was changed while it was read."),
    apsw.InternalError: (StorageError, _FAULTY),
    apsw.ConnectionClosedError: (StorageError, "The database is closed."),
    apsw.CursorClosedError: (StorageError, "The database is closed."),
    # what only a fault of ours can cause
    apsw.ConstraintError: (NarthexError, None),  # or a Conflict, where something unique exists already
    apsw.SQLError: (NarthexError, None),
    apsw.MismatchError: (NarthexError, None),
    apsw.NotFoundError: (NarthexError, None),
    apsw.MisuseError: (NarthexError, None),
    apsw.RangeError: (NarthexError, None),
    apsw.TooBigError: (NarthexError, None),
    apsw.ThreadingViolationError: (NarthexError, None),
    apsw.IncompleteExecutionError: (NarthexError, None),
    apsw.BindingsError: (NarthexError, None),
    apsw.ExecutionCompleteError: (NarthexError, None),
    apsw.ExecTraceAbort: (NarthexError, None),
    apsw.ExtensionLoadingError: (NarthexError, None),
    apsw.ConnectionNotClosedError: (NarthexError, None),
    apsw.VFSNotImplementedError: (NarthexError, None),
    apsw.VFSFileClosedError: (NarthexError, None),
    apsw.ForkingViolationError: (NarthexError, None),
    apsw.NoFTS5Error: (NarthexError, None),
    apsw.InvalidContextError: (NarthexError, None),
}

CONNECTION_SURVIVES = (apsw.ConstraintError, apsw.BusyError, apsw.LockedError, apsw.InterruptError)
"""After these a connection is as good as before; after any other it is opened anew."""


def translate(error: apsw.Error | OSError, connection: apsw.Connection | None = None) -> NarthexError:
    """The error that our callers know. `connection`, where it happened, tells a full disk from a broken one."""
    if isinstance(error, OSError):
        return StorageFull() if error.errno in _FULL_ERRNOS else StorageError(_DISK)
    if isinstance(error, apsw.ConstraintError) and getattr(error, "extendedresult", 0) in _UNIQUE:
        return Conflict()
    if isinstance(error, apsw.IOError | apsw.CantOpenError) and _errno(connection) in _FULL_ERRNOS:
        return StorageFull()
    kind, message = TABLE.get(type(error), (StorageError, _FAULTY))
    return kind(message)


def _errno(connection: apsw.Connection | None) -> int:
    try:
        return connection.system_errno if connection is not None else 0
    except apsw.ConnectionClosedError:
        return 0
