"""Every message a user can get is read by some test.

The rule, read from the source and never run:

1. A message is made wherever one of our errors (the classes of base/errors.py and those derived from them) is built
   with text, and wherever a method stops with `Stop("...", error=True)`.
2. Its words are the literal pieces of that text: of the strings and f-strings in the call; where the call names a
   variable or a function of the same file instead, of what is assigned to it or written in it. An f-string's {values}
   cut it into pieces; a piece counts from 12 characters on, or if it is the longest of a message that has none.
3. It is read when a string in a test, docstrings left out, has 12 characters or more and shares them with one of these
   pieces: the string, cut at what a regular expression leaves open (`.*`, `\\d+`) and with its escapes undone, is
   inside the piece, or the piece is inside it.

A message without a literal word of its own (`CostError(str(error))`) was made elsewhere and is judged there. There is
no list of exceptions: a message that cannot be brought about by a test should not exist.
"""

import ast
import re
from pathlib import Path

import pytest

import eitherway
from tests.sources import parsed

HOUSE = Path(eitherway.__file__).parent
TESTS = Path(__file__).parent
SHORTEST = 12  # characters; two or three words, enough to tell one message from another


def our_errors(trees: list[ast.Module]) -> set[str]:
    """The names of the classes in base/errors.py, and of all classes derived from them."""
    names = {"EitherwayError", "Failed"}
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.bases]
    parents = {(node.name, ast.unparse(base).rpartition(".")[2]) for node in classes for base in node.bases}
    while True:
        more = {name for name, parent in parents if parent in names}
        if more <= names:
            return names
        names |= more


def literals(node: ast.AST) -> list[str]:
    """The literal strings inside an expression, the constant parts of its f-strings one by one, subscripts left out."""
    if isinstance(node, ast.Subscript):
        return literals(node.value)
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    return [text for child in ast.iter_child_nodes(node) for text in literals(child)]


def words(call: ast.Call, tree: ast.Module, function: ast.AST | None) -> list[str]:
    """The literal pieces of one message, looked up through a variable or a function of the same file if need be."""
    pieces = [text for argument in call.args for text in literals(argument)]
    if max(map(len, pieces), default=0) < SHORTEST:
        for argument in call.args:
            named = {node.id for node in ast.walk(argument) if isinstance(node, ast.Name)}
            named |= {node.attr for node in ast.walk(argument) if isinstance(node, ast.Attribute)}
            for node in ast.walk(function) if function else ():
                if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value:
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    if named & {target.id for target in targets if isinstance(target, ast.Name)}:
                        pieces += literals(node.value)
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and node.name in named:
                    pieces += [text for line in node.body if not is_docstring(line) for text in literals(line)]
    pieces = [piece.strip() for piece in pieces if piece.strip()]
    longest = max(pieces, key=len, default="")
    return [piece for piece in pieces if len(piece) >= SHORTEST] or ([longest] if " " in longest else [])


def called(call: ast.Call) -> str:
    """The last name of what is called: `f` of `f()`, of `a.f()` and of `a().f()`."""
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def is_docstring(node: ast.AST) -> bool:
    """Whether a statement is nothing but a string."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def messages(tree: ast.Module, errors: set[str]) -> dict[int, list[str]]:
    """Line number to literal pieces, for every message made in a file."""
    found: dict[int, list[str]] = {}

    def visit(node: ast.AST, function: ast.AST | None, owner: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node
        elif isinstance(node, ast.ClassDef):
            owner = node.name
        elif isinstance(node, ast.Call):
            name = called(node)
            stops = name == "Stop" and any(k.arg == "error" and ast.unparse(k.value) == "True" for k in node.keywords)
            inside = owner in errors and name == "__init__" and ast.unparse(node.func) == "super().__init__"
            if stops or inside or name in errors:
                found[node.lineno] = words(node, tree, function)
        for child in ast.iter_child_nodes(node):
            visit(child, function, owner)

    visit(tree, None, "")
    return {line: pieces for line, pieces in found.items() if pieces}


def read_by_tests() -> set[str]:
    """Every piece of text of at least `SHORTEST` characters that stands in a test, outside docstrings."""
    found: set[str] = set()
    for path in set(TESTS.rglob("test_*.py")) - {Path(__file__)}:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and len(text) >= SHORTEST and id(node) not in docstrings:
                open_ended = re.split(r"\.[*+]\??|\\[dwsDWS][*+?]?|(?<!\\)\[[^]]*\][*+?]?|(?<!\\)[|^$]", text)
                found |= {re.sub(r"\\(.)", r"\1", piece).strip() for piece in open_ended}
    return {piece for piece in found if len(piece) >= SHORTEST}


class Readers:
    """What tests read, laid out so that each of a thousand messages finds its readers at once."""

    def __init__(self, texts: set[str]):
        self.whole = "\0".join(sorted(texts))
        self.heads: dict[str, list[str]] = {}
        for text in texts:
            self.heads.setdefault(text[:SHORTEST], []).append(text)

    def lie_in(self, piece: str) -> bool:
        """Whether one of the texts, each of at least `SHORTEST` characters, is inside the piece."""
        starts = range(len(piece) - SHORTEST + 1)
        return any(
            piece.startswith(text, at) for at in starts for text in self.heads.get(piece[at : at + SHORTEST], ())
        )

    def read(self, pieces: list[str]) -> bool:
        """Whether a text and one of the message's pieces lie in one another."""
        return any(piece in self.whole or self.lie_in(piece) for piece in pieces)


FILES = sorted(HOUSE.rglob("*.py"))


@pytest.fixture(scope="module")
def errors() -> set[str]:
    return our_errors([parsed(path) for path in FILES])


@pytest.fixture(scope="module")
def readers() -> Readers:
    return Readers(read_by_tests())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_every_message_is_read_by_a_test(path, errors, readers):
    made = messages(parsed(path), errors)
    assert [f"line {n}: {max(pieces, key=len)!r}" for n, pieces in made.items() if not readers.read(pieces)] == []


@pytest.mark.parametrize(
    "source, pieces",
    [
        ("raise SpaceError(f'{x} is no bound of this; give numbers')", ["is no bound of this; give numbers"]),
        ("def f():\n    text = 'this is far too low'\n    raise SpaceError(text)", ["this is far too low"]),
        ("def why(): return 'it has gone wrong'\nraise SpaceError(why())", ["it has gone wrong"]),
        ("Stop('the steps have become too small', error=True)", ["the steps have become too small"]),
        (
            "class E(SpaceError):\n    def __init__(self): super().__init__('a class of its own')",
            ["a class of its own"],
        ),
    ],
)
def test_a_message_is_found_however_it_is_written(source, pieces):
    assert list(messages(ast.parse(source), {"SpaceError", "E"}).values()) == [pieces]


@pytest.mark.parametrize(
    "source", ["Stop('done and well')", "raise SpaceError(str(e))", "raise ValueError('not one of ours')"]
)
def test_what_is_no_message_of_ours_is_left_alone(source):
    assert messages(ast.parse(source), {"SpaceError"}) == {}


def test_a_message_nobody_reads_is_seen(readers):
    unread = "no test " + "holds these very words"
    assert not readers.read([unread])


def test_a_text_within_a_message_reads_it_and_so_does_one_around_it():
    readers = Readers({"these are three words", "far too low for that"})
    assert readers.read(["and these are three words more"]) and readers.read(["too low for"])
    assert not readers.read(["three other words"]) and not readers.read(["words far too low"])
