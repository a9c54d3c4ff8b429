"""Does some test notice? Change the redistribution and slicing code in one place at a time, and run the tests.

Each change (a comparison turned, a term dropped, a call left out, ...) is a *mutant*. It is *killed* if a test fails;
what survives is either equivalent to the original or a gap in the tests. pytest collects once; each mutant then runs in
a fork of that process, which exchanges the code of one function and stops at the first failure. Tests on MPI ranks take
no part: threads run the same code.

    python packages/ht-comm/tools/mutate.py [--only redistribute] [--part 0/2] [--log FILE]
"""

import argparse
import ast
import copy
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1] / "tests"
FILES = [
    *("test_redistribute_plan.py", "test_redistribute.py", "test_exchange.py", "test_buffers.py"),
    "test_serial.py",
    *("test_properties.py", "test_contract.py"),
]
#: Module -> names of the functions whose code is changed; None: all but those that need MPI processes.
TARGETS: dict[str, tuple[str, ...] | None] = {
    "redistribute": None,
    "pieces": None,
    "boxes": None,
    "movement": (
        *("_allgather_into", "_start_gather", "_start_scatter", "_start_alltoallv", "_start_exchange"),
        *("_bcast_slices", "_lengths", "_cut"),
    ),
    "buffers": ("nbytes", "ptr", "part", "array", "is_leading", "pack_blocks", "landing_blocks", "_blocks"),
    "communicator": ("_fits", "_slices"),
    "point_to_point": ("_isend_slices", "_irecv_slices", "wait_all"),
    "reductions": ("_reduce_scatter_into", "_reduce_to_each", "_allreduce_slices"),
}
#: Reading the memory of other processes: threads send messages instead.
ON_PROCESSES = ("_read", "take")
SECONDS = 90  # a mutant that takes longer than that loops, and is killed

COMPARED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}


def changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], ast.AST | None]]]:
    """Yield (what is done, function from a copy of the node to what takes its place) for a node."""
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                other = COMPARED[type(op)]
                yield (
                    f"{type(op).__name__} to {other.__name__}",
                    lambda n, i=i, o=other: _with(n, "ops", i, o()),
                )
        case ast.BinOp() if type(node.op) in COMPUTED:
            other = COMPUTED[type(node.op)]
            yield f"{type(node.op).__name__} to {other.__name__}", lambda n: _set(n, op=other())
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield f"to {other.__name__}", lambda n: _set(n, op=other())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "sign dropped", lambda n: n.operand
        case ast.Constant(value=bool()):
            yield "flipped", lambda n: ast.Constant(not n.value)
        case ast.Constant(value=int()):
            yield "plus 1", lambda n: ast.Constant(n.value + 1)
        case ast.If() | ast.While() | ast.IfExp():
            yield "negated", lambda n: _set(n, test=ast.UnaryOp(ast.Not(), n.test))
        case ast.Return(value=ast.expr()) if not _is_none(node.value):
            yield "returns None", lambda n: _set(n, value=ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "left out", lambda n: ast.Pass()
        case ast.Assign(targets=[ast.Subscript()]):
            yield "left out", lambda n: ast.Pass()
        case ast.Break() | ast.Continue():
            yield "left out", lambda n: ast.Pass()


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _set(node: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def _with(node: Any, name: str, index: int, value: Any) -> Any:
    getattr(node, name)[index] = value
    return node


class _Apply(ast.NodeTransformer):
    """Makes one change at one node of a function."""

    def __init__(self, number: int, change: Callable[[Any], ast.AST | None]) -> None:
        self.number = number
        self.change = change

    def visit(self, node: ast.AST) -> Any:
        if getattr(node, "number", None) == self.number:
            return self.change(node)
        return self.generic_visit(node)


def mutants(module: Any, names: tuple[str, ...] | None) -> Iterator[tuple[str, str, int, str, CodeType]]:
    """Yield (module, function, line, change, code of the whole module) for each mutant of a module's functions."""
    tree = ast.parse(Path(module.__file__).read_text())
    for number, node in enumerate(ast.walk(tree)):
        node.number = number
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        if function.name in ON_PROCESSES or (names is not None and function.name not in names):
            continue
        for statement in function.body:
            for node in _body(statement):
                for told, change in changes(node):
                    copied = ast.fix_missing_locations(_Apply(node.number, change).visit(copy.deepcopy(tree)))
                    shown = f"{ast.unparse(node).splitlines()[0]}: {told}"
                    code = compile(copied, module.__file__, "exec")
                    yield module.__name__, function.name, node.lineno, shown, code


def _body(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a statement that the program runs through: no texts, types, errors or inner functions."""
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.FunctionDef)):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "ctx"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _body(child)


def _functions(thing: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the functions of a module and of its classes, without their decorators."""
    for value in list(vars(thing).values()):
        value = getattr(value, "fget", None) or getattr(value, "__func__", value)
        while hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        if isinstance(value, type) and value.__module__ == getattr(thing, "__name__", None):
            yield from _functions(value, seen)
        elif hasattr(value, "__code__") and id(value) not in seen:
            seen.add(id(value))
            yield value


def install(module: Any, code: CodeType) -> None:
    """Give all functions of a module the code they have in a changed version of it."""
    found: dict[str, CodeType] = {}
    todo = [code]
    while todo:
        inner = [constant for constant in todo.pop().co_consts if isinstance(constant, CodeType)]
        found.update({each.co_qualname: each for each in inner})
        todo += inner
    for function in _functions(module, set()):
        if function.__module__ == module.__name__ and function.__code__.co_qualname in found:
            function.__code__ = found[function.__code__.co_qualname]
        cached = getattr(module, "_plan_cached", None)
        if cached is not None:
            cached.cache_clear()


def chosen(items: list, module: str) -> list:
    """Choose the tests that reach a module, those first that find most; of the contract those on three threads."""
    contract = {
        item: item.function.__module__.rpartition(".")[2]
        for item in items
        if item.path.name == "test_contract.py" and item.cls.__name__ == "TestThreads"
    }
    if module in ("redistribute", "pieces", "boxes"):
        first = [item for item in items if item.path.name == "test_redistribute_plan.py"]
        then = [
            item for item in contract if contract[item] == "matrix" and item.name.endswith("-redistribute]")
        ]
        last = [item for item in items if item.path.name in ("test_redistribute.py", "test_exchange.py")]
        if module == "pieces":
            first, last = [], [*last, *first]
    else:
        parts = ("matrix", "movement", "reductions", "messages")
        first = [item for item in contract if contract[item] == "matrix" and "[numpy-sliced-" in item.name]
        then = [item for item in items if item.path.name in ("test_buffers.py", "test_serial.py")]
        last = [item for item in contract if contract[item] in parts and item not in first]
        last += [item for item in items if item.path.name == "test_properties.py"]
    return [item for item in (*first, *then, *last) if item.get_closest_marker("mpi") is None]


class Mutator:
    """Plugin: runs the tests once for each mutant in place of once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.failed = False

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a failure."""
        self.failed = self.failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool:
        """Run the original, then all mutants."""
        part, parts = map(int, self.options.part.split("/"))
        results = {"killed": 0, "survived": 0, "looped": 0}
        again = None
        if self.options.again is not None:
            lines = [json.loads(line) for line in Path(self.options.again).read_text().splitlines()]
            again = {(e["module"], e["line"], e["change"]) for e in lines if e["result"] == "survived"}
        with open(self.options.log, "a") as log:
            for name, names in TARGETS.items():
                if self.options.only not in (None, name):
                    continue
                module = importlib.import_module(f"ht_comm.{name}")
                items = chosen(session.items, name)
                start = time.monotonic()
                if self._run(items, None, None) != "survived":
                    raise pytest.UsageError("mutate: the tests must pass before anything is changed")
                print(f"\n{name}: {len(items)} tests, {time.monotonic() - start:.0f} s", flush=True)
                for number, (_, function, line, shown, code) in enumerate(mutants(module, names)):
                    if number % parts != part or (again is not None and (name, line, shown) not in again):
                        continue
                    start = time.monotonic()
                    result = self._run(items, module, code)
                    results[result] += 1
                    told = {
                        "module": name,
                        "function": function,
                        "line": line,
                        "change": shown,
                        "result": result,
                    }
                    log.write(json.dumps({**told, "seconds": round(time.monotonic() - start, 1)}) + "\n")
                    log.flush()
                    if result == "survived":
                        print(f"survived: {name}.py:{line} {function}: {shown}", flush=True)
        total = sum(results.values())
        print(
            f"{total} mutants: {results}, {(total - results['survived']) / max(total, 1):.1%} killed",
            flush=True,
        )
        return True

    def _run(self, items: list, module: Any, code: CodeType | None) -> str:
        """Run the tests in a fork, until one fails; return what became of the mutant."""
        pid = os.fork()
        if pid == 0:
            self._child(items, module, code)
        deadline = time.monotonic() + (SECONDS if module is not None else 10 * SECONDS)
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return "survived" if status == 0 else "killed"
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "looped"

    def _child(self, items: list, module: Any, code: CodeType | None) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        if module is not None:
            os.dup2(null, 1)
            os.dup2(null, 2)
        status = 1
        try:
            if module is not None:
                install(module, code)
            for item, following in zip(items, [*items[1:], None]):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.failed:
                    break
            status = int(self.failed)
        finally:
            os._exit(status)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=TARGETS, help="one module")
    parser.add_argument("--part", default="0/1", help="i/n: every n-th mutant, from number i")
    parser.add_argument("--again", metavar="FILE", help="those only that have survived according to this log")
    parser.add_argument("--log", default="mutants.jsonl", help="where results are added (mutants.jsonl)")
    options = parser.parse_args()
    files = [str(TESTS / name) for name in FILES]
    arguments = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:faulthandler",
        "-s",
        "--hypothesis-seed=0",
        "--tb=short",
    ]
    return pytest.main([*arguments, *files], plugins=[Mutator(options)])


if __name__ == "__main__":
    sys.exit(main())
