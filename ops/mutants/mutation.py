"""All mutants of one source file. Pure: text in, changes out."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from itertools import pairwise

#: Comparisons and their neighbours: boundaries move by one, tests of membership and identity turn round.
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
#: Calls whose loss harms nobody: logs, and messages for people.
_HARMLESS = ("log.", "structlog.", "logging.", "warnings.", "print(", "say(")
#: Methods that only show an object to people.
_SHOWING = frozenset({"__repr__", "__str__"})


@dataclass(frozen=True)
class Mutant:
    """One changed place. `start` and `end` are offsets in bytes; `line` and `last_line` are those of the changed text,
    `statement` is the first line of the statement that it is in.
    """

    path: str
    statement: int
    line: int
    last_line: int
    function: str
    kind: str
    start: int
    end: int
    before: str
    after: str

    @property
    def key(self) -> str:
        """What stays the same while other lines of the file move; two alike in one function share it."""
        return f"{self.path}::{self.function}::{self.kind}::{_squeezed(self.before)} -> {_squeezed(self.after)}"

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutants_of(path: str, source: str) -> list[Mutant]:
    """All mutants of a Python file, in the order of their places."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end, mutant.after))


def mutants_of_lua(path: str, source: str) -> list[Mutant]:
    """The mutants of a Lua script: each statement that calls Redis and keeps nothing of the answer, dropped; each condition
    made true, and false.
    """
    found, offset = [], 0
    for number, line in enumerate(source.splitlines(keepends=True), 1):
        text = line.strip()
        start = offset + len(line[: len(line) - len(line.lstrip())].encode())
        if text.startswith("redis.call("):
            found.append(
                Mutant(path, number, number, number, "", "drop", start, start + len(text.encode()), text, "do end")
            )
        if text.startswith("if ") and " then" in text:
            condition = text.removeprefix("if ").partition(" then")[0]
            begin = start + len("if ")
            found += [
                Mutant(
                    path,
                    number,
                    number,
                    number,
                    "",
                    "condition",
                    begin,
                    begin + len(condition.encode()),
                    condition,
                    word,
                )
                for word in ("true", "false")
            ]
        offset += len(line.encode())
    return found


def _squeezed(text: str) -> str:
    return " ".join(text.split())


class _Finder(ast.NodeVisitor):
    """Collects mutants inside functions; what a module or class does once, when it is imported, is left alone."""

    def __init__(self, path: str, source: str) -> None:
        self.found: list[Mutant] = []
        self._path = path
        self._bytes = source.encode()
        lines = source.encode().splitlines(keepends=True)
        self._offsets = [0]
        for line in lines:
            self._offsets.append(self._offsets[-1] + len(line))
        self._names: list[str] = []
        self._functions = 0
        self._statement = 0

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self._statement = node.lineno
        super().visit(node)

    # Where we are.

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in _SHOWING:
            return
        self._names.append(node.name)
        self._functions += 1
        for statement in node.body:  # neither decorators nor defaults nor annotations
            self.visit(statement)
        self._functions -= 1
        self._names.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._drop_assignment(node, [node.target], has_value=node.value is not None)
        if node.value is not None:
            self.visit(node.value)

    # Statements.

    def visit_Expr(self, node: ast.Expr) -> None:
        called = isinstance(node.value, ast.Call) and not self._text(node).startswith(_HARMLESS)
        if called:
            self._add(node, "drop", "pass")
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(node, "drop", "pass")  # its words are for people

    def visit_Assign(self, node: ast.Assign) -> None:
        self._drop_assignment(node, node.targets, has_value=True)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add(node, "drop", "pass")
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._add(node, "drop", "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "drop", "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "drop", "pass")

    def visit_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool):
            self._add(node.value, "constant", str(not node.value.value))
        self.generic_visit(node)

    def _drop_assignment(self, node: ast.stmt, targets: list[ast.expr], *, has_value: bool) -> None:
        """State that is kept: an attribute or an item. A name of the function's own would only be missed at once."""
        if has_value and all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
            self._add(node, "drop", "pass")

    # Conditions.

    def visit_If(self, node: ast.If) -> None:
        if self._only_tells(node):
            return
        self._condition(node.test, "True", "False")
        self.generic_visit(node)

    def _only_tells(self, node: ast.If) -> bool:
        """Return True for a condition of log lines alone, unless asking it does something."""
        is_pure = not any(isinstance(one, (ast.Call, ast.NamedExpr)) for one in ast.walk(node.test))
        lines = [one for one in node.body if isinstance(one, ast.Expr) and self._text(one).startswith(_HARMLESS)]
        return is_pure and not node.orelse and len(lines) == len(node.body)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._condition(node.test, "False")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test, "True", "False")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._condition(test, "True")
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        """For mypy and readers; nothing relies on it."""

    def _condition(self, test: ast.expr, *words: str) -> None:
        for word in words:
            # a name that the condition binds is bound all the same
            after = f"[{self._text(test)}, {word}][1]" if _binds(test) else word
            self._add(test, "condition", after)

    # Expressions.

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self._between(left, right, word, other, "boolean")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(node, "not", f"bool({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            self._between(left, right, None, _COMPARISONS[type(operator)], "comparison")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, (ast.Add, ast.Sub)) and not _is_text(node.left) and not _is_text(node.right):
            word, other = ("+", "-") if isinstance(node.op, ast.Add) else ("-", "+")
            self._between(node.left, node.right, word, other, "arithmetic")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
            self._add(node.func, "function", _FUNCTIONS[node.func.id])
        if not self._text(node).startswith(_HARMLESS):
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Words for people."""

    # Places.

    def _between(self, left: ast.expr, right: ast.expr, word: str | None, other: str, kind: str) -> None:
        """Change the operator between two operands. Parentheses and comments between them stay."""
        start, end = self._end(left), self._start(right)
        gap = self._bytes[start:end].decode()
        old = word or gap.strip(" ()\n\t")
        at = gap.find(old)
        if not old or at < 0 or "#" in gap:
            return
        begin = start + len(gap[:at].encode())
        self._add_at(begin, begin + len(old.encode()), left.end_lineno or left.lineno, kind, other, left)

    def _add(self, node: ast.stmt | ast.expr, kind: str, after: str) -> None:
        self._add_at(self._start(node), self._end(node), node.lineno, kind, after, node)

    def _add_at(self, start: int, end: int, line: int, kind: str, after: str, node: ast.stmt | ast.expr) -> None:
        before = self._bytes[start:end].decode()
        if self._functions and before != after:
            last = node.end_lineno or node.lineno
            name = ".".join(self._names)
            self.found.append(Mutant(self._path, self._statement, line, last, name, kind, start, end, before, after))

    def _text(self, node: ast.stmt | ast.expr) -> str:
        return self._bytes[self._start(node) : self._end(node)].decode()

    def _start(self, node: ast.stmt | ast.expr) -> int:
        return self._offsets[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.stmt | ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offsets[node.end_lineno - 1] + node.end_col_offset


def _binds(test: ast.expr) -> bool:
    return any(isinstance(node, ast.NamedExpr) for node in ast.walk(test))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))


def lines(mutant: Mutant) -> set[int]:
    """Return the lines of which one is run if the mutant is reached."""
    return {mutant.statement, *range(mutant.line, mutant.last_line + 1)}
