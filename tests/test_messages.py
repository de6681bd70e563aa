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
from functools import cache
from pathlib import Path

import pytest

import eitherway

HOUSE = Path(eitherway.__file__).parent
TESTS = Path(__file__).parent
SHORTEST = 12  # characters; two or three words, enough to tell one message from another


def our_errors(trees: list[ast.Module]) -> set[str]:
    """The names of the classes in base/errors.py, and of all classes derived from them."""
    names = {"EitherwayError", "Failed"}
    while True:
        more = {
            node.name
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and names & {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        }
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


def is_docstring(node: ast.AST) -> bool:
    """Whether a statement is nothing but a string."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def messages(source: str, errors: set[str]) -> dict[int, list[str]]:
    """Line number to literal pieces, for every message made in a file."""
    tree = ast.parse(source)
    found: dict[int, list[str]] = {}

    def visit(node: ast.AST, function: ast.AST | None, owner: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node
        elif isinstance(node, ast.ClassDef):
            owner = node.name
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            stops = called == "Stop" and any(k.arg == "error" and ast.unparse(k.value) == "True" for k in node.keywords)
            inside = owner in errors and called == "super().__init__"
            if stops or inside or called.rpartition(".")[2] in errors:
                found[node.lineno] = words(node, tree, function)
        for child in ast.iter_child_nodes(node):
            visit(child, function, owner)

    visit(tree, None, "")
    return {line: pieces for line, pieces in found.items() if pieces}


def read_by_tests() -> set[str]:
    """Every piece of text of at least `SHORTEST` characters that stands in a test, outside docstrings."""
    found: set[str] = set()
    for path in set(TESTS.rglob("test_*.py")) - {Path(__file__)}:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                open_ended = re.split(r"\.[*+]\??|\\[dwsDWS][*+?]?|(?<!\\)\[[^]]*\][*+?]?|(?<!\\)[|^$]", node.value)
                found |= {re.sub(r"\\(.)", r"\1", piece).strip() for piece in open_ended}
    return {piece for piece in found if len(piece) >= SHORTEST}


def is_read(pieces: list[str], read: set[str]) -> bool:
    """Whether a test's text and one of the message's pieces lie in one another."""
    return any(text in piece or piece in text for piece in pieces for text in read)


FILES = sorted(HOUSE.rglob("*.py"))


@cache
def errors_and_readers() -> tuple[set[str], set[str]]:
    """The names of our error classes, and all that tests read: gathered once."""
    return our_errors([ast.parse(path.read_text(encoding="utf-8")) for path in FILES]), read_by_tests()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_every_message_is_read_by_a_test(path):
    errors, read = errors_and_readers()
    made = messages(path.read_text(encoding="utf-8"), errors)
    assert [f"line {n}: {max(pieces, key=len)!r}" for n, pieces in made.items() if not is_read(pieces, read)] == []


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
    assert list(messages(source, {"SpaceError", "E"}).values()) == [pieces]


@pytest.mark.parametrize(
    "source", ["Stop('done and well')", "raise SpaceError(str(e))", "raise ValueError('not one of ours')"]
)
def test_what_is_no_message_of_ours_is_left_alone(source):
    assert messages(source, {"SpaceError"}) == {}


def test_a_message_nobody_reads_is_seen():
    unread = "no test " + "holds these very words"
    assert not is_read([unread], read_by_tests())
