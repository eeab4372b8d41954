"""Small faults for `plant_faults`: changes of a module's syntax tree, one at a time, and what each one says."""

import ast
import copy
import random
import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
            ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
COMBINED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
            ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip
DROPPED = "setting dropped"  # a keyword argument or an entry of a dictionary, not a constant, that is not handed on
SKIPPED_CALLS = {"detach", "clone", "clamp", "clamp_min", "float", "double", "flip", "sort", "to", "expand", "sqrt"}
SYMMETRIC = {"transpose", "swapaxes", "promote_types", "min", "max", "minimum", "maximum"}  # in their arguments
LOSSLESS = {"cast", "ValueError", "super", "TypeVar", "register_buffer"}  # arguments of these are names or words


class Fault(NamedTuple):
    """A planted fault: where it is and how the line reads before and after."""

    module: str
    line: int
    kind: str
    before: str
    after: str
    source: str  # of the whole module with the fault in it

    @property
    def lost(self) -> Collection[str]:
        """The words that the line has no longer."""
        words = [Counter(re.findall(r"[a-z]\w*", line)) for line in (self.before, self.after)]
        return words[0] - words[1]


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """(kind, replacement) of every fault that this node can have; None: leave the statement out."""
    twin: Any = copy.copy(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        twin.ops = [COMPARED[type(node.ops[0])](), *node.ops[1:]]
        yield "comparison", twin
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in COMBINED:
        twin.op = COMBINED[type(node.op)]()
        yield "operator", twin
    elif isinstance(node, ast.BoolOp):
        twin.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "condition", twin
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield "operator", twin.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        other = (
            not value if isinstance(value, bool) else value + 1 if isinstance(value, int) or not value else value / 2
        )
        yield "constant", ast.Constant(other)
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        twin.test = ast.UnaryOp(ast.Not(), node.test)
        yield "condition", twin
    if isinstance(node, ast.Raise | ast.AugAssign | ast.Break | ast.Continue) or _effect(node):
        yield "statement", None
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        for number, value in enumerate(node.values):
            if not isinstance(value, ast.Constant):
                yield DROPPED, ast.Dict(_without(node.keys, number), _without(node.values, number))
    if isinstance(node, ast.Call) and _name(node.func) not in LOSSLESS:
        for number, keyword in enumerate(node.keywords):
            kind = "argument dropped" if isinstance(keyword.value, ast.Constant) else DROPPED
            yield kind, ast.Call(node.func, node.args, _without(node.keywords, number))
        if len(node.args) > 1 and not any(isinstance(one, ast.Starred) for one in node.args):
            yield "argument dropped", ast.Call(node.func, node.args[:-1], node.keywords)
            first, second, *others = node.args
            if _name(node.func) not in SYMMETRIC:
                yield "arguments exchanged", ast.Call(node.func, [second, first, *others], node.keywords)
        moved = any("device" in ast.unparse(one) for one in node.args)  # nothing moves where all is on one device
        if isinstance(node.func, ast.Attribute) and node.func.attr in SKIPPED_CALLS and not moved:
            yield "call left out", twin.func.value


def _without(parts: list[Any], number: int) -> list[Any]:
    return [*parts[:number], *parts[number + 1 :]]


def _effect(node: ast.AST) -> bool:
    """Whether a statement has an effect only: a call, or a value stored in an attribute or an item."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    kept = ast.Attribute | ast.Subscript
    return isinstance(node, ast.Assign) and all(isinstance(target, kept) for target in node.targets)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


class _Places(ast.NodeVisitor):
    """The nodes of a module that may get a fault, in order, with the statement that they stand in."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.AST, ast.stmt]] = []
        self._statement: ast.stmt | None = None

    def visit(self, node: ast.AST) -> None:
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node
        if self._statement is not None and not isinstance(node, ast.expr_context):
            self.found.append((node, self._statement))
        if isinstance(node, ast.FunctionDef):  # not its annotations and decorators
            for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
                self.visit(part)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.visit(node.value)
        elif not isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
            self.generic_visit(node)
        self._statement = outer


class _Replace(ast.NodeTransformer):
    """Puts another node in the place of one, which is found by identity."""

    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def faults(
    module: str, source: str, rng: random.Random | None = None, kinds: Collection[str] | None = None
) -> Iterator[Fault]:
    """Every fault that can be planted in a module, in the order of its lines or, with `rng`, in a random order.

    Each is made when it is asked for, as printing a syntax tree takes 10 ms. `kinds`: only these.
    """
    tree = ast.parse(source)
    places = _Places()
    places.visit(tree)
    plain = ast.unparse(tree)
    possible = [(node, statement, *change) for node, statement in places.found for change in changes(node)]
    if rng is not None:
        rng.shuffle(possible)
    for node, statement, kind, change in possible:
        if kinds is not None and kind not in kinds:
            continue
        new = ast.Pass() if change is None else change
        text = ast.unparse(ast.fix_missing_locations(_Replace(node, new).visit(tree)))
        _Replace(new, node).visit(tree)
        if text != plain:
            yield Fault(module, statement.lineno, kind, *_difference(plain, text), text)


def _difference(a: str, b: str) -> tuple[str, str]:
    """The first line that differs, before and after."""
    pairs = zip(a.splitlines(), b.splitlines(), strict=False)
    return next(((x.strip(), y.strip()) for x, y in pairs if x != y), ("", ""))
