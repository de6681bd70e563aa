"""The file that keeps a run: an SQLite file with one writer and many readers; born complete, opened with care."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import shutil
import socket
import sqlite3
import weakref
from pathlib import Path
from typing import Any

from eitherway.base.errors import JournalError

FORMAT = 1
IDENTITY = int.from_bytes(b"EITH", "big")

_SCHEMA = f"""
PRAGMA application_id={IDENTITY};
PRAGMA user_version={FORMAT};
CREATE TABLE run(name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE call(number INTEGER PRIMARY KEY, began REAL, ended REAL, pid INTEGER, limits TEXT, reason TEXT);
CREATE TABLE turn(turn INTEGER PRIMARY KEY, hash BLOB, points BLOB, record BLOB);
CREATE TABLE part(turn INTEGER, number INTEGER, hash BLOB, points BLOB, record BLOB, PRIMARY KEY(turn, number))
  WITHOUT ROWID;
CREATE TABLE snapshot(turn INTEGER PRIMARY KEY, hash BLOB, state BLOB, file TEXT);
"""

PATIENCE = 10.0
"""Seconds to wait for another program that has locked the file."""
AFRESH = "give another journal= path to start a new run"


class Lock:
    """Who may write: a lock of the operating system on `PATH.lock`, which dies with its process.

    Raises:
        JournalError: if somebody else holds it, with who; or if nothing may be written there.
    """

    def __init__(self, path: Path):
        self.path, self._name = path, path.with_name(path.name + ".lock")
        self.held = True
        while True:
            self._handle = os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(self._handle, 200, 0).decode(errors="replace").split()
                os.close(self._handle)
                raise JournalError(_held(path, holder)) from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                    os.close(self._handle)
                    raise
                self.held = False  # a network disk without locks
            if not self.held or _same_file(self._handle, self._name):
                break
            os.close(self._handle)  # its last holder removed it between our two calls
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()} {socket.gethostname()}".encode(), 0)
        _LOCKS.add(self)

    def release(self) -> None:
        """Gives the lock back and removes its file."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._name)  # while it is held: whoever opened it meanwhile looks again
            self.drop()

    def drop(self) -> None:
        """Closes our end of it."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


_LOCKS: weakref.WeakSet[Lock] = weakref.WeakSet()


def _drop_all() -> None:
    for lock in list(_LOCKS):
        lock.drop()


# a cost that forks must not leave a child that holds the lock of its dead parent
os.register_at_fork(after_in_child=_drop_all)


def _same_file(handle: int, name: Path) -> bool:
    try:
        ours, theirs = os.fstat(handle), os.stat(name)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _held(path: Path, holder: list[str]) -> str:
    if holder and holder[0] == str(os.getpid()):
        return f"{path} is being written by another run of this very process; let that one end, or {AFRESH}"
    who = f"process {holder[0]} on {holder[1]}" if len(holder) == 2 else "another process"
    return f"{path} is being written by {who}; wait until it ends, or {AFRESH}"


# ---- opening -------------------------------------------------------------------------------------------------------
def connect(name: str, uri: bool = False) -> sqlite3.Connection:
    """A connection that begins and ends its transactions itself."""
    return sqlite3.connect(name, isolation_level=None, check_same_thread=False, uri=uri, timeout=PATIENCE)


def open_to_write(path: Path, configuration: dict[str, Any]) -> tuple[sqlite3.Connection, str | None]:
    """The file, made where there is none, and a note where it had to be opened in a slower way. The lock is held.

    Raises:
        JournalError: if it is empty, cut short, not ours, newer than this program, or may not be written.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.born*"):  # by a process that died while it wrote them
        left.unlink()
    if not path.exists():
        _born(path, configuration)
    if not _writable(path):
        raise JournalError(_read_only(path))
    db = connect(str(path))
    try:
        check(db, path)
        return db, _write_ahead(db, path)
    except sqlite3.Error as error:
        db.close()
        raise explain(error, path) from None
    except BaseException:
        db.close()
        raise


def open_to_read(path: Path) -> sqlite3.Connection:
    """The file as it stands in this moment, while another process may go on writing it.

    Raises:
        JournalError: if there is none, or it is none of ours.
    """
    if not path.exists():
        raise JournalError(f"there is no journal {path}; expected the journal= path of a run")
    if path.is_dir():
        raise JournalError(f"{path} is a folder; expected the journal of a run, a file")
    quoted = "file:" + str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    db = connect(quoted + "?mode=ro", uri=True)
    try:
        try:
            check(db, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            # nobody writes in a read-only folder, and SQLite may not lay its own files there
            db.close()
            db = connect(quoted + "?immutable=1", uri=True)
            check(db, path)
        db.execute("BEGIN")
        return db
    except sqlite3.Error as error:
        db.close()
        raise explain(error, path) from None
    except BaseException:
        db.close()
        raise


def _born(path: Path, configuration: dict[str, Any]) -> None:
    """Writes an empty journal aside and renames it: nobody ever meets half of one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.born")
    db = None
    try:
        db = connect(str(aside))
        # not to the disk yet: after a power cut there is either the whole file or none that counts
        db.executescript("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; BEGIN;" + _SCHEMA)
        db.execute("INSERT INTO run VALUES('configuration', ?)", (json.dumps(configuration),))
        db.execute("COMMIT")
        with contextlib.suppress(sqlite3.OperationalError):  # on a network disk; `_write_ahead` says so
            db.execute("PRAGMA journal_mode=WAL")  # here it costs no flush, later two
        db.close()
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        for end in ("-wal", "-shm"):  # left of a file that somebody removed: SQLite would take the log for ours
            path.with_name(path.name + end).unlink(missing_ok=True)
        os.replace(aside, path)
    except (sqlite3.Error, OSError) as error:
        if db is not None:
            db.close()
        for left in path.parent.glob(f"{glob.escape(aside.name)}*"):
            left.unlink()
        raise explain(error, path) from None


def check(db: sqlite3.Connection, path: Path) -> None:
    """Looks at the first page: is it ours, whole, and of a format that this program reads?"""
    if path.stat().st_size == 0:
        raise JournalError(
            f"{path} is empty (0 bytes), and no run leaves an empty file; remove it to begin there, or {AFRESH}"
        )
    if (found := db.execute("PRAGMA application_id").fetchone()[0]) != IDENTITY:
        raise JournalError(
            f"{path} is an SQLite file of another program (application id {found:#x}); it was left alone, so {AFRESH}"
        )
    if (version := db.execute("PRAGMA user_version").fetchone()[0]) > FORMAT:
        raise JournalError(
            f"{path} was written by a newer Eitherway (format {version}; this one reads up to {FORMAT}); "
            "upgrade eitherway to read it, or " + AFRESH
        )
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    short = pages * size - path.stat().st_size
    if short > 0 and not path.with_name(path.name + "-wal").exists():
        raise sqlite3.DatabaseError(f"it is {short} bytes shorter than it was")


def _write_ahead(db: sqlite3.Connection, path: Path) -> str | None:
    """Turns on what makes commits cheap; where the disk cannot do that (NFS), what is safe."""
    db.execute("PRAGMA synchronous=NORMAL")
    try:
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL):
            raise
        mode = "none"
    if mode == "wal":
        return None
    db.execute("PRAGMA journal_mode=TRUNCATE")
    db.execute("PRAGMA synchronous=FULL")
    return (
        f"the disk of {path} cannot share memory (a network disk?), so it is committed in a slower way; "
        "a journal= path on a local disk would be faster"
    )


# ---- what went wrong -------------------------------------------------------------------------------------------------
def explain(error: Exception, path: Path, waiting: int = 0) -> JournalError:
    """An error of SQLite or the disk, as a sentence that names the file and what to do.

    Args:
        error: a sqlite3.Error or an OSError.
        path: the journal.
        waiting: bytes that could not be written.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    writing = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL) or number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    if writing:
        need = 8 * 2**10 + 2 * waiting  # what waits is copied once from the log into the file
        return JournalError(
            f"{path} cannot grow: no space is left, or a limit is reached ({error}). What waits needs {_size(need)}; "
            f"{_size(_free(path))} are free on that disk. All that was committed is kept: make room, and the same call "
            "goes on from there"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or number in (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    ):
        return JournalError(_read_only(path))
    if code == sqlite3.SQLITE_BUSY:
        return JournalError(
            f"{path} is locked by another program that reads SQLite files; close it there and call again"
        )
    if isinstance(error, OSError):
        return JournalError(f"{path} cannot be a journal ({error}); expected a path in a folder that can be written")
    if code == sqlite3.SQLITE_NOTADB:
        return JournalError(f"{path} is not a journal ({error}); it was left alone, so {AFRESH}")
    return JournalError(
        f"{path} is damaged ({error}), cut short perhaps. Journal.rescue(path, into) copies what can still be read to "
        f"a new file, from which the same call with its path as journal= goes on; or {AFRESH}"
    )


def _read_only(path: Path) -> str:
    what = "file" if path.exists() and _writable(path.parent) else "folder"
    return (
        f"{path} cannot be written: the {what} is read-only for this user. Make it writable, or {AFRESH}; "
        "Journal.read(path) shows what is kept in it"
    )


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _free(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0


def _size(number: int) -> str:
    return f"{number / 2**20:.1f} MB" if number >= 2**20 else f"{-(-number // 2**10)} kB"
