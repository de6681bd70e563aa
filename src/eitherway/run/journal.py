"""A run that is kept: every answer that was paid for, and now and then a snapshot; all else is computed again."""

from __future__ import annotations

import glob
import json
import os
import sqlite3
import time
from hashlib import sha256
from pathlib import Path

import numpy as np

from eitherway.base import files
from eitherway.base.errors import JournalError
from eitherway.methods.codec import encode
from eitherway.methods.protocol import Question
from eitherway.run import replay, store
from eitherway.run.answers import Answers
from eitherway.run.configuration import Configuration, limits_to_plain
from eitherway.run.kept import read, rescue
from eitherway.run.loop import Run
from eitherway.run.records import any_value, fingerprint, pack, unpack
from eitherway.run.stopping import clock
from eitherway.run.threads import changed
from eitherway.space.plain import plain

GROUP = 0.05
"""Seconds of work that share a commit: a commit costs about 0.2 ms."""
REPLAY = 2.0
"""Seconds of the engine's own work after which a snapshot saves doing them again."""
PATIENCE = 50
"""A snapshot is taken no sooner than after so many times what the last one took."""
POINTS = 64 * 2**10
"""Bytes of a turn's points that are kept, for readers; more are computed again when they are needed."""
SAY = 1.0
"""Seconds between two entries of how long the call has gone on."""
BESIDE = 2**20
"""Bytes of a snapshot that goes into a file of its own."""


class Journal:
    """The book of one run in one file; the same call again goes on with it, bit for bit.

    A finished turn is one record: its answers as exact bytes, and a hash of its points. Answers of an unfinished turn
    are records of their own until it is finished. Commits are grouped, so that what a killed process loses is work of
    less than 50 ms, done again. Opened by `replay`; the folder is made where it is missing.

    Args:
        path: the file, made where there is none.
        configuration: what must be the same for a run to be gone on with.
    """

    read = staticmethod(read)
    rescue = staticmethod(rescue)

    def __init__(self, path: str | os.PathLike[str], configuration: Configuration):
        self.path = Path(os.path.realpath(path))
        self.configuration = configuration
        self._db: sqlite3.Connection | None = None
        self._lock: store.Lock | None = None
        self._broken = False
        self._turns: list[tuple[int, bytes, bytes | None, bytes]] = []
        self._part: tuple[int, Answers] | None = None
        self._written = np.zeros(0, bool)  # rows of the unfinished turn that are in the file
        self._parts = self._again = 0
        self._engine = self._snapshot_took = 0.0
        self._call: int | None = None
        self._logged: tuple[int, int] = (0, -1)  # notes and the last improvement that are in the file
        self._kept_reason: str | None = None
        self._same_limits = False
        self._began, self._said, self._flushed = time.time(), 0.0, clock()

    # ---- going on ---------------------------------------------------------------------------------------------------
    def replay(self, run: Run) -> None:
        """Brings a fresh run to where the file ends: state, carry, history, notes and the unfinished turn's answers.

        Raises:
            JournalError: if the file cannot be opened, belongs to another configuration, or does not agree with it.
        """
        self._run = run
        try:
            db = self._open(run)
            kept = replay.compare(db, self.path, self.configuration)
            replay.restore(db, self.path, run)
            self._logged = (len(run.notes), -1)
            if note := changed(kept.get("threads", {}), self.configuration.get("threads", {})):
                run.note(note)
            replay.tell_again(db, self.path, run)
            self._parts = replay.unfinished(db, self.path, run)
            self._kept_reason, self._same_limits = replay.ended(db, run)
        except (sqlite3.Error, OSError) as error:
            raise store.explain(error, self.path) from None
        if self._parts:
            answers = run.search.answers
            self._part = (run.search.state.turn, answers)
            self._written, self._again = answers.done.copy(), answers.again
        self._flushed = clock()

    def _open(self, run: Run) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_dir():
            raise JournalError(f"{self.path} is a folder; expected a file in it, such as {self.path / 'run.db'}")
        self._lock = store.Lock(self.path)
        self._db, note = store.open_to_write(self.path, self.configuration)
        if note:
            run.note(note)
        if not self._lock.held:
            run.note(f"the disk of {self.path} knows no locks; make sure that no other process writes there")
        return self._db

    # ---- keeping ----------------------------------------------------------------------------------------------------
    def part(self, turn: int, answers: Answers) -> None:
        """Commits the answers so far of an unfinished turn, and all turns before it."""
        if self._part is None or self._part[1] is not answers:
            self._part, self._written = (turn, answers), np.zeros(len(answers), bool)
            self._parts = self._again = 0
        self._flush()

    def turn(self, turn: int, question: Question, answers: Answers) -> None:
        """Takes a finished turn, as exact bytes; it is committed with others, soon."""
        self._turns.append((turn, fingerprint(question.points), _kept(question.points), pack(answers)))
        self._part = None

    def moved(self, run: Run, engine_seconds: float) -> None:
        """Commits, if it is time to; with a snapshot, if going back had become expensive."""
        self._engine += engine_seconds
        now = clock()
        if self._engine > max(REPLAY, PATIENCE * self._snapshot_took):
            self._flush((run.search.state.turn, encode((run.search.state, run.problem.carry))))
            self._engine, self._snapshot_took = 0.0, clock() - now
        elif now - self._flushed > GROUP:
            self._flush()

    def _flush(self, snapshot: tuple[int, bytes] | None = None) -> None:
        """One transaction with all that waits, if anything does. Interrupted or failed, it can be done again."""
        db, rows, part = self._db, self._rows(), self._part
        if db is None or self._broken or not (self._turns or len(rows) or snapshot):
            return
        record, waiting = None, sum(len(points or b"") + len(record) for _, _, points, record in self._turns)
        if part is not None and len(rows):
            record = self._record(rows, part[1].again - self._again)
            waiting += len(record[1]) + len(record[2])
        everything = (db, self._turns, None if part is None or record is None else (part[0], *record), snapshot)
        try:
            try:
                self._commit(*everything)
            except (sqlite3.Error, OSError) as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                    return  # a reader of a file without a log of its own; it all waits for the next time
                if db.in_transaction:
                    db.execute("ROLLBACK")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log may hold the room that is missing
                self._commit(*everything)
        except (sqlite3.Error, OSError) as error:
            self._broken = True
            raise store.explain(error, self.path, waiting + len(snapshot[1] if snapshot else b"")) from None
        self._turns = []
        if part is not None and record is not None:
            self._written[rows] = True
            self._parts, self._again = self._parts + 1, part[1].again
        if snapshot:
            self._sweep(db)
        self._flushed = clock()

    def _commit(
        self,
        db: sqlite3.Connection,
        turns: list[tuple[int, bytes, bytes | None, bytes]],
        part: tuple[int, bytes, bytes, bytes] | None,
        snapshot: tuple[int, bytes] | None,
    ) -> None:
        if db.in_transaction:  # Ctrl-C came between two statements
            db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        self._log(db, None)
        if turns:
            db.executemany("INSERT OR REPLACE INTO turn VALUES(?, ?, ?, ?)", turns)
            db.execute("DELETE FROM part WHERE turn <= ?", (turns[-1][0],))
        if part is not None:
            db.execute("INSERT OR REPLACE INTO part VALUES(?, ?, ?, ?, ?)", (part[0], self._parts, *part[1:]))
        if snapshot is not None:
            self._snapshot(db, *snapshot)
        db.execute("COMMIT")
        self._logged = (len(self._run.notes), self._run.search.state.improved)

    def _rows(self) -> np.ndarray:
        """(n,) the answered rows of the unfinished turn that are not in the file yet."""
        if self._part is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self._part[1].done & ~self._written)

    def _record(self, rows: np.ndarray, again: int) -> tuple[bytes, bytes, bytes]:
        """Hash of the question, points and answers of some rows of the unfinished turn."""
        question = self._run.search.question
        assert question is not None and self._part is not None
        kept = _kept(question.points)
        return (
            fingerprint(question.points),
            b"" if kept is None else question.points[rows].astype("<f8", copy=False).tobytes(),
            pack(self._part[1], rows, again),
        )

    def _log(self, db: sqlite3.Connection, reason: str | None) -> None:
        """What readers want to know of this call, the best of all finished turns, and the notes."""
        run, s = self._run, self._run.search.state
        now = time.time()
        if self._call is None:
            self._call = (db.execute("SELECT max(number) FROM call").fetchone()[0] or 0) + 1
        if not 0 <= now - self._said < SAY:
            limits = json.dumps(limits_to_plain(run.limits))
            row = (self._call, self._began, now, os.getpid(), limits, reason)
            db.execute("INSERT OR REPLACE INTO call VALUES(?, ?, ?, ?, ?, ?)", row)
            self._said = now
        if len(run.notes) != self._logged[0]:
            db.execute("INSERT OR REPLACE INTO run VALUES('notes', ?)", (json.dumps(run.notes),))
        if s.improved != self._logged[1]:
            best = plain([s.best_violation, s.best_value, None if s.best_point is None else s.best_point.tolist()])
            db.execute("INSERT OR REPLACE INTO run VALUES('best', ?)", (json.dumps(best),))

    # ---- snapshots --------------------------------------------------------------------------------------------------
    def _snapshot(self, db: sqlite3.Connection, turn: int, data: bytes) -> None:
        """Two are kept; a large one in a file beside, which is whole before anything refers to it."""
        name = None
        if len(data) > BESIDE:
            name = f"{self.path.name}.turn{turn}.state"
            files.write(self.path.with_name(name), data)
        row = (turn, sha256(data).digest(), data if name is None else None, name)
        db.execute("INSERT OR REPLACE INTO snapshot VALUES(?, ?, ?, ?)", row)
        db.execute("DELETE FROM snapshot WHERE turn NOT IN (SELECT turn FROM snapshot ORDER BY turn DESC LIMIT 2)")

    def _sweep(self, db: sqlite3.Connection) -> None:
        """Removes the files of snapshots that nothing refers to any more."""
        used = {name for (name,) in db.execute("SELECT file FROM snapshot WHERE file IS NOT NULL")}
        name = glob.escape(self.path.name)
        for pattern in (f"{name}.turn*.state", f".{name}.turn*.state.*"):
            for old in self.path.parent.glob(pattern):
                if old.name not in used:
                    old.unlink(missing_ok=True)

    # ---- ending -----------------------------------------------------------------------------------------------------
    def close(self, reason: str | None) -> None:
        """Commits what waits and gives the file back. A run that had ended the same way before is left as it is."""
        try:
            if self._db is None or self._broken:
                return
            self._flush()
            if self._call is None and (reason is None or (reason == self._kept_reason and self._same_limits)):
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._said = 0.0
            self._log(self._db, reason)
            self._join_parts(self._db)
            self._db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise store.explain(error, self.path) from None
        finally:
            self._release()

    def _join_parts(self, db: sqlite3.Connection) -> None:
        """The records of an unfinished turn as one, the same however often the run was interrupted."""
        if self._part is None or self._parts < 2:
            return
        record = self._record(np.flatnonzero(self._written), self._again)
        db.execute("DELETE FROM part WHERE turn = ?", (self._part[0],))
        db.execute("INSERT INTO part VALUES(?, 0, ?, ?, ?)", (self._part[0], *record))

    def discard(self) -> None:
        """Removes a file that keeps no value: a cost that never worked must not stand in the way of the mended one."""
        db = self._db
        if db is None or any(any_value(unpack(r)[0]) for (r,) in db.execute("SELECT record FROM turn").fetchall()):
            return self.close(None)
        db.close()
        self._db = None
        for end in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        return self._release()

    def _release(self) -> None:
        if self._db is not None:
            try:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._db.close()
            except sqlite3.Error:  # on a full disk; what was committed stays in the log beside the file
                pass
            self._db = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _kept(points: np.ndarray) -> bytes | None:
    return points.astype("<f8", copy=False).tobytes() if points.nbytes <= POINTS else None
