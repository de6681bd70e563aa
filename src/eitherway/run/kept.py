"""A kept run, read without disturbing whoever writes it: for reports, and for what is left of a damaged file."""

from __future__ import annotations

import glob
import json
import os
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eitherway.base.errors import JournalError
from eitherway.methods.protocol import OK
from eitherway.run import store
from eitherway.run.answers import Answers
from eitherway.run.configuration import Configuration, limits_from_plain
from eitherway.run.history import History
from eitherway.run.records import put, unpack
from eitherway.run.stopping import Limits
from eitherway.space.plain import space_from_plain, unplain
from eitherway.space.space import Space


@dataclass(frozen=True)
class Kept:
    """What a journal says of its run, as of one moment.

    Args:
        path: the file.
        configuration: what the run was begun with, as plain values.
        space: for reading: options that are objects are told by their descriptions.
        history: everything evaluated, in columns, the unfinished turn included; `history.why` has the failures' texts.
        best: the best point as the cost was called with it, or None.
        value: its value, in the user's sign; NaN if there is none.
        reason: why the last call stopped; None while it runs, or where it was killed.
        limits: the budget and so on of the last call, the target in the sign of the search.
        notes: what else a user should hear.
        seconds: wall-clock seconds of all calls together.
        calls: how often it was begun and gone on with.
        turns: how many were finished.
    """

    path: Path
    configuration: Configuration = field(repr=False)
    space: Space = field(repr=False)
    history: History
    best: Any
    value: float
    reason: str | None
    limits: Limits
    notes: tuple[str, ...]
    seconds: float
    calls: int
    turns: int

    @property
    def evaluations(self) -> int:
        """How many evaluations have an answer."""
        return len(self.history)

    @property
    def failures(self) -> int:
        """How many of them have no value."""
        return int(np.count_nonzero(self.history["status"] != OK))


def read(path: str | os.PathLike[str]) -> Kept:
    """What a journal keeps; works while another process writes it, and changes nothing.

    Raises:
        JournalError: if there is no journal, or it is damaged.
    """
    path = Path(os.path.realpath(path))
    db = store.open_to_read(path)
    try:
        return _read(db, path)
    except sqlite3.Error as error:
        raise store.explain(error, path) from None
    finally:
        db.close()


def begun_with(path: str | os.PathLike[str]) -> tuple[Configuration, Limits]:
    """The configuration of a kept run, and the limits of its last call.

    Raises:
        JournalError: if there is no journal, or it is damaged.
    """
    path = Path(os.path.realpath(path))
    db = store.open_to_read(path)
    try:
        configuration = db.execute("SELECT value FROM run WHERE name = 'configuration'").fetchone()
        if configuration is None:
            raise sqlite3.DatabaseError("its configuration is missing")
        call = db.execute("SELECT limits FROM call ORDER BY number DESC LIMIT 1").fetchone()
        return json.loads(configuration[0]), limits_from_plain(json.loads(call[0])) if call else Limits()
    except sqlite3.Error as error:
        raise store.explain(error, path) from None
    finally:
        db.close()


def _read(db: sqlite3.Connection, path: Path) -> Kept:
    named = dict(db.execute("SELECT name, value FROM run"))
    if "configuration" not in named:
        raise sqlite3.DatabaseError("its configuration is missing")
    configuration = json.loads(named["configuration"])
    space = space_from_plain(configuration["space"], strict=False)
    history = History(space, configuration["sign"])
    turns = 0
    for turn, points, record in db.execute("SELECT turn, points, record FROM turn ORDER BY turn"):
        answers, _ = unpack(record)
        kept = np.frombuffer(points, "<f8").reshape(-1, space.columns) if points else None
        history.add(turn, kept, answers)
        turns = turn + 1
    best = _best(named.get("best"))
    parts = db.execute("SELECT points, record FROM part WHERE turn = ? ORDER BY number", (turns,)).fetchall()
    if parts:
        kept, answers = _joined(parts, space.columns)
        history.add(turns, kept, answers)
        best = _better(best, kept, answers)
    calls = db.execute("SELECT began, ended, limits, reason FROM call ORDER BY number").fetchall()
    limits, reason = (limits_from_plain(json.loads(calls[-1][2])), calls[-1][3]) if calls else (Limits(), None)
    _, value, point = best
    return Kept(
        path=path,
        configuration=configuration,
        space=space,
        history=history,
        best=None if point is None else space.decode(point[None])[0],
        value=float("nan") if point is None else configuration["sign"] * value,
        reason=reason,
        limits=limits,
        notes=tuple(json.loads(named.get("notes", "[]"))),
        seconds=sum(ended - began for began, ended, _, _ in calls),
        calls=len(calls),
        turns=turns,
    )


def _joined(parts: list[tuple[bytes, bytes]], columns: int) -> tuple[np.ndarray | None, Answers]:
    """The answered rows of an unfinished turn, in row order."""
    unpacked = [unpack(record) for _, record in parts]
    width = 1 + max(int(rows.max()) for _, rows in unpacked if rows is not None)
    answers, points = Answers(width), np.full((width, columns), np.nan)
    for (part, rows), (kept, _) in zip(unpacked, parts, strict=True):
        assert rows is not None
        put(part, rows, answers)
        if kept:
            points[rows] = np.frombuffer(kept, "<f8").reshape(-1, columns)
    return (points if parts[0][0] else None), answers


def _best(kept: str | None) -> tuple[float, float, np.ndarray | None]:
    """(violation, value, point) of the best of all finished turns."""
    if kept is None:
        return np.inf, np.inf, None
    violation, value, point = unplain(json.loads(kept))
    return violation, value, None if point is None else np.array(point)


def _better(
    best: tuple[float, float, np.ndarray | None], points: np.ndarray | None, answers: Answers
) -> tuple[float, float, np.ndarray | None]:
    """The better of the best so far (violation, value, point) and a turn's best."""
    rows = np.flatnonzero(answers.done & (answers.status == OK))
    if not len(rows):
        return best
    violation = np.zeros(len(answers))
    for row, g in answers.violations.items():
        violation[row] = np.maximum(g, 0).sum()
    row = rows[np.lexsort((answers.values[rows], violation[rows]))[0]]
    found = (float(violation[row]), float(answers.values[row]))
    return (*found, None if points is None else points[row]) if found < best[:2] else best


def rescue(path: str | os.PathLike[str], into: str | os.PathLike[str]) -> int:
    """Copies what can still be read of a damaged journal, up to its first hole, to a new one; says how many turns.

    The new file is a journal like any other: the same call with journal= set to it goes on from there.

    Raises:
        JournalError: if not even the configuration can be read, or `into` exists.
    """
    path, new = Path(os.path.realpath(path)), Path(os.path.realpath(into))
    if new.exists():
        raise JournalError(f"{new} exists already; expected the path of a new file to rescue to")
    if not path.exists():
        raise JournalError(f"there is no journal {path}; expected the journal= path of a run")
    aside = new.with_name(f".{new.name}.{os.getpid()}.rescue")
    turns = 0
    try:
        old = store.connect(str(_whole(path, aside)))
        try:
            configuration = json.loads(old.execute("SELECT value FROM run WHERE name = 'configuration'").fetchone()[0])
            db, _ = store.open_to_write(new, configuration)
            db.execute("BEGIN")
            while (row := _turn_of(old, turns)) is not None:
                db.execute("INSERT INTO turn VALUES(?, ?, ?, ?)", row)
                turns += 1
            db.execute("COMMIT")
            db.close()
        except (sqlite3.Error, TypeError, ValueError) as error:
            raise JournalError(f"nothing can be rescued from {path} ({error}): its first pages are gone") from None
        finally:
            old.close()
    finally:
        for left in aside.parent.glob(f"{glob.escape(aside.name)}*"):
            left.unlink()
    return turns


def _whole(path: Path, aside: Path) -> Path:
    """A copy at its full length, zeros for what is gone: SQLite opens no file that is shorter than its head says."""
    shutil.copyfile(path, aside)
    log = path.with_name(path.name + "-wal")
    if log.exists():
        shutil.copyfile(log, aside.with_name(aside.name + "-wal"))
    with open(aside, "r+b") as file:
        head = file.read(32)
        size, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        file.truncate(max(path.stat().st_size, (65536 if size == 1 else size) * pages))
    return aside


def _turn_of(db: sqlite3.Connection, turn: int) -> tuple[Any, ...] | None:
    try:
        row = db.execute("SELECT turn, hash, points, record FROM turn WHERE turn = ?", (turn,)).fetchone()
        if row is not None:
            unpack(row[3])
    except (sqlite3.Error, JournalError):
        return None
    return row
