"""The command line: ``python -m ht_meta info``, ``... demo``, ``... run -n 4 script.py``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO


class Parser(argparse.ArgumentParser):
    """A parser that tells its errors once, not once per rank."""

    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        if launcher_rank(os.environ) == 0:
            super()._print_message(message, file)


def launcher_rank(environ: Mapping[str, str]) -> int:
    """Return this process's rank as its launcher tells it, without starting MPI; 0 where there is no
    launcher.
    """
    for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"):
        if environ.get(name, "").isdecimal():
            return int(environ[name])
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(prog="python -m ht_meta", description="Distributed arrays, analysis and learning.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{info,demo,run}")
    commands.add_parser("info", help="print versions, MPI, ranks, threads and devices")
    _add_demo(
        commands.add_parser("demo", help="run an analysis of an astronomical image from HDF5 to a picture")
    )
    run = commands.add_parser(
        "run",
        help="run a script on several ranks",
        description="Run a Python program on several ranks: finds the MPI launcher, shares the cores between ranks.",
    )
    run.add_argument(
        "-n", "--ranks", type=_positive, default=None, help="number of ranks (default: the launcher's)"
    )
    run.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, help="run a module instead, with its arguments"
    )
    run.add_argument("program", nargs=argparse.REMAINDER, help="script.py and its arguments")
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.description = (
        "Analyse the Hubble deep field, each pixel with its 7 x 7 surroundings: HDF5 files, standardisation, SVD, "
        "k-means, Lasso, a picture. Run it on p ranks with: mpiexec -n p python -m ht_meta demo"
    )
    demo.add_argument(
        "--rows", type=_positive, default=None, help="use about so many pixels (default: all, 859938)"
    )
    demo.add_argument(
        "--clusters", type=_positive, default=25, help="clusters of k-means (default: %(default)s)"
    )
    demo.add_argument(
        "--rtol",
        type=_fraction,
        default=2.5e-2,
        help="relative error allowed to the SVD (default: %(default)s)",
    )
    demo.add_argument(
        "--alpha", type=_positive_float, default=1e-3, help="penalty of the Lasso (default: %(default)s)"
    )
    demo.add_argument(
        "--init",
        choices=("k-means++", "batchparallel", "random"),
        default="k-means++",
        help="start of k-means (default: %(default)s)",
    )
    demo.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default: %(default)s)")
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output"),
        help="directory of all results (default: %(default)s)",
    )
    demo.add_argument("--device", default="cpu", help="cpu, gpu or a torch device (default: %(default)s)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _positive_float(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"must be in (0, 1), got {text}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line if not given.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.command == "info":
        return _info()
    if options.command == "run":
        return _run(parser, options)
    return _demo(parser, options)


def _info() -> int:
    from .info import describe

    text = describe()
    if text:
        print(text)
    return 0


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from .launch import LauncherError, launch

    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if options.module:
        program = ["-m", *options.module]
    elif not program:
        parser.error("run: a script must be given: run -n 4 script.py")
    elif not Path(program[0]).is_file():
        parser.error(f"run: script must be an existing file, got {program[0]!r}")
    try:
        launch(options.ranks, program)
    except (LauncherError, OSError) as error:
        print(error, file=sys.stderr)
    return 2


def _demo(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from .demo import DemoError, Options, run_demo

    values = {key: value for key, value in vars(options).items() if key != "command"}
    try:
        run_demo(Options(**values))
    except DemoError as error:  # the same on every rank
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    return 0
