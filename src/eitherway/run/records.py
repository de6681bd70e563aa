"""The answers of a turn, or of a part of one, as exact bytes: columns first, what is rare behind them."""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Any

import numpy as np

from eitherway.base.errors import JournalError
from eitherway.methods.codec import decode, encode
from eitherway.methods.protocol import OK
from eitherway.run.answers import Answers

_HEAD = struct.Struct("<III")
"""Rows, evaluations lost before they were answered, bytes of what is rare."""
_SUM = 8
"""Bytes of a checksum in front: SQLite would not notice a flipped bit."""


def pack(answers: Answers, rows: np.ndarray | None = None, again: int | None = None) -> bytes:
    """Answered rows as bytes: the same answers give the same bytes, in whatever order they came.

    Args:
        answers: of which all rows are answered, or those of `rows`.
        rows: (n,) the rows to take, ascending; None takes all.
        again: how many lost evaluations to tell of; None tells of all.

    Raises:
        JournalError: if a report is something that cannot be kept.
    """
    values, status = answers.values, answers.status
    rare: dict[str, Any] = {}
    if rows is not None:
        values, status, rare["rows"] = values[rows], status[rows], rows
    if answers.why:
        rare["why"] = _by_row(answers.why, rows)
    if answers.gradients:
        rare["gradients"] = _stacked(_by_row(answers.gradients, rows))
    if answers.violations:
        rare["violations"] = _stacked(_by_row(answers.violations, rows))
    if answers.reports:
        rare["reports"] = _by_row(answers.reports, rows)
    if answers.metrics:
        rare["metrics"] = _by_row(answers.metrics, rows)
    if answers.no_gradient:
        rare["no_gradient"] = answers.no_gradient
    try:
        tail = encode(rare) if rare else b""
    except TypeError as error:
        raise JournalError(
            f"a report of the cost cannot be kept: {error}. Report plain numbers, texts, lists, dicts or arrays"
        ) from None
    head = _HEAD.pack(len(values), answers.again if again is None else again, len(tail))
    body = b"".join((head, values.astype("<f8", copy=False).tobytes(), status.tobytes(), tail))
    return blake2b(body, digest_size=_SUM).digest() + body


def unpack(record: bytes) -> tuple[Answers, np.ndarray | None]:
    """What `pack` was given: n answered rows, and which rows of their question they are (None: all of them).

    Raises:
        JournalError: if the bytes are not those that were packed.
    """
    body = record[_SUM:]
    if len(body) < _HEAD.size or blake2b(body, digest_size=_SUM).digest() != record[:_SUM]:
        raise JournalError(f"a record of {len(record)} bytes was cut or changed")
    n, again, length = _HEAD.unpack_from(body)
    answers = Answers(n)
    answers.values[:] = np.frombuffer(body, "<f8", n, _HEAD.size)
    answers.status[:] = np.frombuffer(body, np.uint8, n, _HEAD.size + 8 * n)
    answers.done[:] = True
    answers.missing, answers.again = 0, again
    if not length:
        return answers, None
    rare = decode(body[-length:])
    for name in ("why", "reports", "metrics"):
        setattr(answers, name, rare.get(name, {}))
    for name in ("gradients", "violations"):
        setattr(answers, name, _unstacked(rare.get(name, {})))
    answers.no_gradient = rare.get("no_gradient")
    return answers, rare.get("rows")


def put(part: Answers, rows: np.ndarray, into: Answers) -> None:
    """Takes the rows of a part into the answers to the whole question."""
    fresh = ~into.done[rows]
    into.values[rows], into.status[rows], into.done[rows] = part.values, part.status, True
    into.missing -= int(fresh.sum())
    into.again += part.again
    into.no_gradient = into.no_gradient or part.no_gradient
    for name in ("why", "gradients", "violations", "reports", "metrics"):
        getattr(into, name).update({int(rows[i]): thing for i, thing in getattr(part, name).items()})


def fingerprint(points: np.ndarray) -> bytes:
    """16 bytes that tell a question's points from all others."""
    return blake2b(points.tobytes(), digest_size=16, person=b"%d" % len(points)).digest()


def any_value(answers: Answers) -> bool:
    """Whether an answered row has a value."""
    return bool((answers.done & (answers.status == OK)).any())


def _by_row(column: dict[int, Any], rows: np.ndarray | None) -> dict[int, Any]:
    """A rare column in row order; with `rows` counted within them."""
    if rows is None:
        return {row: column[row] for row in sorted(column)}
    place = {row: i for i, row in enumerate(rows.tolist())}
    return {place[row]: column[row] for row in sorted(column) if row in place}


def _stacked(column: dict[int, np.ndarray]) -> Any:
    """Arrays of one shape as one matrix; others as they are."""
    arrays = list(column.values())
    if len({(a.shape, a.dtype.str) for a in arrays}) != 1:
        return column
    return (list(column), np.stack(arrays))


def _unstacked(column: Any) -> dict[int, np.ndarray]:
    return dict(zip(column[0], column[1], strict=True)) if isinstance(column, tuple) else column
