"""What can be wrong with a file, a folder or a disk: each is said, none loses what was paid for."""

import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import eitherway as ew
from eitherway.base.errors import JournalError
from eitherway.methods.codec import encode
from eitherway.methods.protocol import Method, Question
from eitherway.methods.variables.random_search import RandomSearch
from eitherway.run import journal as journal_module
from eitherway.run import loop, store
from eitherway.run.journal import Journal
from eitherway.run.records import unpack
from tests.run.costs import Curriculum, bowl, noisy, slow_bowl

SPACE = [(-1.0, 1.0)] * 5


def minimize(path=None, cost=bowl, **given):
    given = {"space": SPACE, "budget": 50, "method": "randomsearch", "progress": None, **given}
    return ew.minimize(cost, given.pop("space"), given.pop("method"), journal=path, **given)


def state_of(result):
    return encode(result.search.state), repr(result.history["value"].tolist())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


def refused(path, wanted, **given):
    """The call is refused with these words, and the folder is as it was."""
    before = {p: p.read_bytes() if p.is_file() else None for p in path.parent.iterdir()}
    with pytest.raises(JournalError, match=wanted) as caught:
        minimize(path, **given)
    assert str(path) in str(caught.value)
    assert {p: p.read_bytes() if p.is_file() else None for p in path.parent.iterdir()} == before


# ---- files that are no journals --------------------------------------------------------------------------------------
def test_an_empty_file_is_told_and_left(path):
    path.touch()
    refused(path, r"is empty \(0 bytes\), and no run leaves an empty file; remove it")
    with pytest.raises(JournalError, match="is empty"):
        Journal.read(path)


def test_a_file_of_something_else_is_told_and_left(path):
    path.write_text("epoch,loss\n" * 1000)
    refused(path, "is not a journal .* give another journal= path to start a new run")


def test_an_sqlite_file_of_another_program_is_told_and_left(path):
    db = sqlite3.connect(path)
    db.executescript("CREATE TABLE trials(x); PRAGMA application_id=7;")
    db.close()
    refused(path, r"is an SQLite file of another program \(application id 0x7\)")


def test_a_newer_file_is_told_and_left(path):
    minimize(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    refused(path, r"written by a newer Eitherway \(format 99; this one reads up to 1\); upgrade")


def test_a_folder_is_told(path):
    path.mkdir()
    refused(path, "is a folder; expected a file in it, such as .*run.db/run.db")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot be a journal .* expected a path in a folder that can be written"):
        minimize(tmp_path / "file" / "run.db")


def test_there_must_be_something_to_read_or_to_resume(path):
    with pytest.raises(JournalError, match="there is no journal .*run.db; expected the journal= path of a run"):
        Journal.read(path)
    with pytest.raises(JournalError, match="there is no journal .*run.db"):
        ew.resume(path)
    with pytest.raises(JournalError, match="there is no journal .*run.db"):
        Journal.rescue(path, path)


# ---- damage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_told_and_what_can_be_read_is_rescued(path, share):
    minimize(path, budget=2000)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, r"is damaged \(.*\), cut short perhaps. Journal.rescue\(path, into\) copies what can still be read")
    new = path.with_name("new.db")
    turns = Journal.rescue(path, new)
    assert turns > 250 * (share - 0.25)
    calls = []

    def counted(step):
        calls.append(step.turn)

    whole = minimize(new, budget=2000, callbacks=[counted])
    assert calls == list(range(turns, 250))  # only what was lost is evaluated again
    assert state_of(whole) == state_of(minimize(budget=2000))


def test_a_rescue_overwrites_nothing_and_says_when_nothing_is_left(path):
    minimize(path)
    with pytest.raises(JournalError, match="exists already; expected the path of a new file to rescue to"):
        Journal.rescue(path, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(JournalError, match="nothing can be rescued from .* its first pages are gone"):
        Journal.rescue(path, path.with_name("new.db"))


def test_a_flipped_bit_in_a_record_is_told(path):
    minimize(path)
    db = sqlite3.connect(path)
    record = bytearray(db.execute("SELECT record FROM turn WHERE turn = 3").fetchone()[0])
    record[30] ^= 1
    db.execute("UPDATE turn SET record = ? WHERE turn = 3", (bytes(record),))
    db.commit()
    db.close()
    refused(path, r"is damaged \(turn 3: a record of 92 bytes was cut or changed\)")
    assert Journal.rescue(path, path.with_name("new.db")) == 3


def test_a_missing_turn_or_configuration_is_told(path):
    minimize(path)
    for change, told in (("turn WHERE turn = 2", "turn 2 is missing"), ("run", "its configuration is missing")):
        db = sqlite3.connect(path)
        db.execute(f"DELETE FROM {change}")
        db.commit()
        db.close()
        refused(path, rf"is damaged \({told}\)")


# ---- another run -----------------------------------------------------------------------------------------------------
def another(x):
    return float((x * x).sum()) + 1


@pytest.mark.parametrize(
    "change, told",
    [
        (
            {"space": [(-1, 1)] * 4 + [(-1, 2)]},
            r"space.value.high: kept \[1.0, 1.0, 1.0, 1.0, 1.0\] of .*, now \[1.0, 1.0, 1.0, 1.0, 2.0\]",
        ),
        ({"method": RandomSearch(rows=4)}, "method.rows: kept 8, now 4"),
        ({"seed": 1}, "seed.seed: kept 0, now 1"),
        ({"seed": ew.Key(0).child("mine")}, r'seed.path: kept nothing, now \["mine"\]'),
        ({"start": np.zeros(5)}, r"space.starts\[0\].point: kept nothing, now \[0.5, 0.5"),
        (
            {"constraints": [bowl]},
            r"constraints\[0\].name: kept nothing, now \"bowl\"",
        ),
        ({"timeout": 3}, "timeout: kept null, now 3"),
        ({"cost": another}, r'cost.name: kept "bowl", now "another".*cost \(its code\): kept "\w+", now "\w+"'),
        ({"cost": ew.seeded(lambda x, seed: 1.0)}, "cost.seeded: kept false, now true"),
    ],
    ids=["space", "method", "seed", "key", "start", "constraints", "timeout", "cost", "seeded"],
)
def test_another_configuration_is_told_difference_by_difference(path, change, told):
    minimize(path)
    refused(
        path, "keeps another run. .*" + told + ".*Undo the change to go on with it, or give another journal=", **change
    )


def test_a_maximization_is_another_run(path):
    minimize(path)
    with pytest.raises(JournalError, match="sign: kept 1.0, now -1.0"):
        ew.maximize(bowl, SPACE, "randomsearch", journal=path, progress=None)


def test_other_versions_are_another_run(path, monkeypatch):
    minimize(path)
    monkeypatch.setattr(np, "__version__", "9.9")
    refused(path, r'versions.numpy: kept "\d.*", now "9.9"')


def test_only_what_differs_is_told_and_limits_are_free(path):
    minimize(path, target=-1.0, stall=1000)
    with pytest.raises(JournalError) as caught:
        minimize(path, seed=1)
    assert str(caught.value).count("kept") == 1
    assert minimize(path, budget=60, seconds=100, callbacks=[lambda step: None]).evaluations == 60


class Restless(Method["int"]):
    """Asks other points every day."""

    day = 0.0

    def init(self, space, key):
        return 0

    def ask(self, state, space, key):
        return Question(np.full((4, space.columns), 0.1 * state + self.day))

    def tell(self, state, space, question, told, key):
        return state + 1


def test_a_method_whose_code_has_changed_is_told_at_its_first_other_question(path, monkeypatch):
    minimize(path, method=Restless(), budget=10)
    monkeypatch.setattr(Restless, "day", 0.01)
    refused(path, "turn 0 of .* was asked at other points than this program asks now", method=Restless(), budget=20)
    assert Journal.read(path).evaluations == 10


def test_an_unfinished_turn_of_other_points_is_told(path, monkeypatch):
    minimize(path, method=Restless(), budget=3)
    monkeypatch.setattr(Restless, "day", 0.01)
    refused(path, "turn 0 of .* was asked at other points", method=Restless(), budget=20)


class Forgetful(Method["object"]):
    """Remembers an object that is no state."""

    def init(self, space, key):
        return object()

    def ask(self, state, space, key):
        return Question(np.zeros((1, space.columns)))

    def tell(self, state, space, question, told, key):
        return state


def test_a_state_that_cannot_be_kept_is_told_before_anything_is_evaluated(path):
    with pytest.raises(
        JournalError, match="this run cannot be kept: builtins.object is not a @state.* leave journal= out"
    ):
        minimize(path, method=Forgetful())


# ---- who else writes -------------------------------------------------------------------------------------------------
def test_a_journal_that_another_process_writes_is_told_with_its_number(path):
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            minimize(path, slow_bowl, budget=100_000)
        os._exit(0)
    try:
        while not path.exists() or not Journal.read(path).evaluations:
            time.sleep(0.01)
        with pytest.raises(
            JournalError, match=f"is being written by process {child} on .*; wait until it ends, or give"
        ):
            minimize(path, slow_bowl)
        with pytest.raises(JournalError, match="is being written by process"):
            ew.resume(path, progress=None)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert minimize(path, slow_bowl, budget=60).evaluations == 60  # the lock died with its process


def test_a_journal_that_this_process_writes_is_told(path):
    def twice(x):
        with pytest.raises(JournalError) as caught:
            minimize(path)
        told.append(str(caught.value))
        return bowl(x)

    told = []
    minimize(path, twice, budget=1)
    assert "is being written by another run of this very process" in told[0]


def test_a_child_that_the_cost_leaves_behind_holds_no_lock(path):
    def leaves(x):
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
        children.append(child)
        return bowl(x)

    children = []
    try:
        minimize(path, leaves, budget=2)
        assert minimize(path, leaves, budget=3).evaluations == 3
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def test_a_lock_file_left_by_a_killed_process_is_no_hindrance(path):
    path.with_name("run.db.lock").write_text("1 elsewhere")
    minimize(path)
    assert os.listdir(path.parent) == ["run.db"]


def killed_in_the_middle(path):
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            minimize(path, slow_bowl, budget=100_000)
        os._exit(0)
    while not path.exists() or not Journal.read(path).evaluations:
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)


def test_a_log_left_of_a_file_that_was_removed_is_not_taken_for_ours(path):
    killed_in_the_middle(path)
    assert path.with_name("run.db-wal").stat().st_size > 0
    path.unlink()
    assert minimize(path, noisy).evaluations == 50
    assert Journal.read(path).configuration["cost"]["name"] == "noisy"


class Interrupted(sqlite3.Connection):
    """Ctrl-C comes before or after the n-th statement."""

    left, after = 0, False

    def execute(self, statement, *parameters):
        Interrupted.left -= 1
        if Interrupted.left == 0 and not self.after:
            raise KeyboardInterrupt
        out = super().execute(statement, *parameters)
        if Interrupted.left == 0 and self.after:
            raise KeyboardInterrupt
        return out


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_ctrl_c_between_any_two_statements_loses_and_doubles_nothing(path, monkeypatch, after):
    def connect(name, uri=False):
        return sqlite3.connect(name, isolation_level=None, check_same_thread=False, uri=uri, factory=Interrupted)

    monkeypatch.setattr(store, "connect", connect)
    monkeypatch.setattr(loop, "TICK", 0.0)
    monkeypatch.setattr(journal_module, "GROUP", 0.0)
    monkeypatch.setattr(Interrupted, "after", after)
    whole = minimize(budget=20)
    for n in range(1, 110, 5):
        new = path.with_name(f"{n}.db")
        Interrupted.left = n
        with contextlib.suppress(KeyboardInterrupt):
            minimize(new, budget=20)
        Interrupted.left = 0
        assert state_of(minimize(new, budget=20)) == state_of(whole)
        db = sqlite3.connect(new)
        rows = db.execute("SELECT record FROM part").fetchall()
        db.close()
        assert sum(len(unpack(row)[0]) for (row,) in rows) == 4


# ---- disks -----------------------------------------------------------------------------------------------------------
def as_nobody(call, *arguments):
    """What a call says in a process that may not write everywhere, as root may."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setegid(65534)
                os.seteuid(65534)
            text = str(call(*arguments))
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def open_folder():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def test_a_read_only_file_is_told_and_can_be_read(open_folder):
    path = open_folder / "run.db"
    minimize(path)
    path.chmod(0o444)
    assert "cannot be written: the file is read-only for this user. Make it writable, or" in as_nobody(minimize, path)
    assert as_nobody(lambda: Journal.read(path).evaluations) == "50"


def test_a_read_only_folder_is_told_and_its_journals_can_be_read(open_folder):
    path = open_folder / "run.db"
    minimize(path)
    open_folder.chmod(0o555)
    for name in ("run.db", "new.db"):
        told = as_nobody(minimize, open_folder / name)
        assert told.startswith("JournalError")
        assert "cannot be written: the folder is read-only for this user" in told
    assert as_nobody(lambda: Journal.read(path).evaluations) == "50"
    assert sorted(os.listdir(open_folder)) == ["run.db"]


def full_disk(folder):
    """In a process of its own: the file may not grow past 100 kB; then it may."""
    path, big = Path(folder) / "run.db", {"method": RandomSearch(rows=20), "budget": 4000}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    journal_module.GROUP = 0.0
    told = []
    for _ in range(2):
        try:
            minimize(path, **big)
        except JournalError as error:
            told.append(str(error))
    kept = Journal.read(path).evaluations
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    calls = []
    resumed = minimize(path, callbacks=[lambda step: calls.append(1)], **big)
    same = state_of(resumed) == state_of(minimize(**big))
    return json.dumps({"told": told, "kept": kept, "calls": 20 * len(calls), "same": same})


def test_a_full_disk_is_told_with_what_is_needed_and_afterwards_the_run_goes_on(tmp_path):
    code = f"from tests.run.test_journal_faults import full_disk; print(full_disk({str(tmp_path)!r}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    told = json.loads(out.stdout)
    for text in told["told"]:
        assert f"{tmp_path}/run.db cannot grow: no space is left, or a limit is reached" in text
        assert "What waits needs " in text
        assert "make room, and the same call goes on from there" in text
    assert told["kept"] >= 400
    assert told["kept"] + told["calls"] == 4000  # what was kept is not evaluated again
    assert told["same"]


def test_a_disk_that_is_full_from_the_start_is_told(path, monkeypatch):
    def full(name, uri=False):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(store, "connect", full)
    refused(path, "cannot grow: no space is left")


class NoSharedMemory(sqlite3.Connection):
    """A connection on a disk where WAL does not work, as on NFS."""

    def execute(self, statement, *parameters):
        if "journal_mode=WAL" in statement:
            error = sqlite3.OperationalError("locking protocol")
            error.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
            raise error
        return super().execute(statement, *parameters)


def test_a_network_disk_is_written_in_a_slower_way_and_told(path, monkeypatch):
    def connect(name, uri=False):
        return sqlite3.connect(name, isolation_level=None, check_same_thread=False, uri=uri, factory=NoSharedMemory)

    monkeypatch.setattr(store, "connect", connect)
    first, again = minimize(path, noisy), minimize(path, noisy)
    assert "cannot share memory (a network disk?), so it is committed in a slower way" in first.notes[0]
    assert state_of(first) == state_of(again) == state_of(minimize(cost=noisy))


def test_a_disk_without_locks_is_told(path, monkeypatch):
    def flock(handle, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(store.fcntl, "flock", flock)
    assert "knows no locks; make sure that no other process writes there" in minimize(path).notes[0]


def test_a_program_that_holds_the_file_is_told_once_nothing_else_is_left_to_do(path, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", 0.05)
    minimize(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(JournalError, match="is locked by another program that reads SQLite files; close it there"):
            minimize(path, budget=60)
    finally:
        db.close()
    assert minimize(path, budget=60).evaluations == 60


def test_a_learning_cost_whose_carry_cannot_be_kept_is_told(path):
    class Objects(Curriculum):
        def start(self):
            return {"horizon": 4, "seen": object()}

    with pytest.raises(JournalError, match="this run cannot be kept: builtins.object"):
        minimize(path, Objects())
