"""Bringing a fresh run to where its file ends: a snapshot, the turns after it told again, and what else is kept."""

from __future__ import annotations

import json
import sqlite3
from hashlib import sha256
from pathlib import Path

import numpy as np

from eitherway.base.errors import JournalError
from eitherway.methods.codec import decode, encode
from eitherway.methods.protocol import OK
from eitherway.run import store
from eitherway.run.configuration import Configuration, differences, limits_to_plain
from eitherway.run.loop import Run
from eitherway.run.parts import Step
from eitherway.run.records import fingerprint, put, unpack
from eitherway.run.search import SearchState

CALLBACK = "a callback asked to stop"
"""The loop's reason that only the callbacks themselves can confirm."""


def compare(db: sqlite3.Connection, path: Path, configuration: Configuration) -> Configuration:
    """The configuration that the file was begun with, once it is sure to be this one.

    Raises:
        JournalError: listing what differs.
    """
    kept = db.execute("SELECT value FROM run WHERE name = 'configuration'").fetchone()
    if kept is None:
        raise sqlite3.DatabaseError("its configuration is missing")
    begun = json.loads(kept[0])
    changed = differences(begun, json.loads(json.dumps(configuration)))
    if changed:
        raise JournalError(
            f"{path} keeps another run. {'; '.join(changed)}. Undo the change to go on with it, or {store.AFRESH}"
        )
    return begun


def restore(db: sqlite3.Connection, path: Path, run: Run) -> None:
    """The sentences said so far, and state and carry of the last snapshot whose hash holds.

    Raises:
        JournalError: if the state or the carry of this run is something that cannot be kept.
    """
    try:
        encode((run.search.state, run.problem.carry))
    except TypeError as error:
        raise JournalError(
            f"this run cannot be kept: {error}. Mark the class with @state of eitherway.methods.codec, "
            "or leave journal= out"
        ) from None
    notes = db.execute("SELECT value FROM run WHERE name = 'notes'").fetchone()
    run.notes[:0] = [note for note in (json.loads(notes[0]) if notes else ()) if note not in run.notes]
    last = db.execute("SELECT max(turn) FROM turn").fetchone()[0]
    snapshots = db.execute("SELECT turn, hash, state, file FROM snapshot ORDER BY turn DESC").fetchall()
    for turn, hashed, state, file in snapshots:
        data = state if file is None else _bytes_of(path.with_name(file))
        if data is not None and sha256(data).digest() == hashed and last is not None and turn <= last + 1:
            search_state, carry = decode(data)
            assert isinstance(search_state, SearchState)
            run.search.state, run.problem.carry = search_state, carry
            return
        run.note(f"the snapshot before turn {turn} of {path.name} is damaged or missing; its turns were computed again")


def tell_again(db: sqlite3.Connection, path: Path, run: Run) -> None:
    """All finished turns into the history; those after the snapshot are asked again, compared, and told.

    Raises:
        JournalError: if a record is damaged, or a question is not the one that was answered.
    """
    search, expected = run.search, 0
    for turn, hashed, points, record in db.execute("SELECT turn, hash, points, record FROM turn ORDER BY turn"):
        if turn != expected:
            raise sqlite3.DatabaseError(f"turn {expected} is missing")
        expected += 1
        try:
            answers, _ = unpack(record)
        except JournalError as error:
            raise sqlite3.DatabaseError(f"turn {turn}: {error}") from None
        if turn < search.state.turn:
            run.history.add(turn, _points(points, search.space.columns), answers)
            continue
        question = search.open()
        if question is None or len(question.points) != len(answers) or fingerprint(question.points) != hashed:
            raise _mismatch(path, turn)
        run.history.add(turn, question.points, answers)
        search.answers = answers
        moved = run.problem.merge(answers.reports, len(answers))
        search.move(answers.told(search.space.columns, question.wants, moved))


def unfinished(db: sqlite3.Connection, path: Path, run: Run) -> int:
    """The answers to the present question that are in the file; says how many records they are.

    Raises:
        JournalError: if they answer another question.
    """
    search = run.search
    query = "SELECT hash, record FROM part WHERE turn = ? ORDER BY number"
    parts = db.execute(query, (search.state.turn,)).fetchall()
    question = search.open() if parts else None
    if parts and question is None:
        raise _mismatch(path, search.state.turn)
    for hashed, record in parts:
        assert question is not None
        try:
            part, rows = unpack(record)
        except JournalError as error:
            raise sqlite3.DatabaseError(f"turn {search.state.turn}: {error}") from None
        if rows is None or hashed != fingerprint(question.points):
            raise _mismatch(path, search.state.turn)
        put(part, rows, search.answers)
    return len(parts)


def ended(db: sqlite3.Connection, run: Run) -> tuple[str | None, bool]:
    """Sets the reason where the run is over under the limits of this call, too.

    Returns:
        The reason in the file, and whether it was reached under these same limits.
    """
    call = db.execute("SELECT limits, reason FROM call ORDER BY number DESC LIMIT 1").fetchone()
    if call is None:
        return None, False
    if _met(db, run):
        run.reason = run.limits.target_sentence
    elif call[1] == CALLBACK and run.callbacks:
        step = _last_step(db, run)
        if step is not None and True in [callback(step) is True for callback in run.callbacks]:
            run.reason = CALLBACK
    return call[1], json.loads(call[0]) == limits_to_plain(run.limits)


def _met(db: sqlite3.Connection, run: Run) -> bool:
    """Whether the best meets the target; or a row of the last turn, since a moved cost forgets its best."""
    value, violation, point = run.search.best_row()
    if point is not None and violation == 0 and run.limits.met(value):
        return True
    last = db.execute("SELECT record FROM turn WHERE turn = ?", (run.search.state.turn - 1,)).fetchone()
    if run.limits.target is None or last is None:
        return False
    answers, _ = unpack(last[0])
    broken = {row for row, g in answers.violations.items() if (g > 0).any()}
    rows = np.flatnonzero((answers.status == OK) & (answers.values <= run.limits.target))
    return any(int(row) not in broken for row in rows)


def _last_step(db: sqlite3.Connection, run: Run) -> Step | None:
    """The last finished turn as callbacks saw it; None where its points are not kept."""
    s, sign = run.search.state, run.problem.sign
    last = db.execute("SELECT points, record FROM turn WHERE turn = ?", (s.turn - 1,)).fetchone()
    points = None if last is None else _points(last[0], run.search.space.columns)
    if last is None or points is None:
        return None
    values = sign * unpack(last[1])[0].values
    return Step(s.turn - 1, s.told, run.search.best, sign * s.best_value, points, values, run.search)


def _mismatch(path: Path, turn: int) -> JournalError:
    return JournalError(
        f"turn {turn} of {path} was asked at other points than this program asks now, with the same settings: the code "
        "of the method or of a learning cost was changed, or this machine computes other last digits. Go on where it "
        f"was begun, or {store.AFRESH}; Journal.read(path) shows what is kept"
    )


def _points(kept: bytes | None, columns: int) -> np.ndarray | None:
    return None if not kept else np.frombuffer(kept, "<f8").reshape(-1, columns)


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
