"""One command per task: ``nox -s demo``, ``nox -s tests``, ``nox -s "layer(core)"`` (``nox -l`` lists them).

Two kinds of environment. ``.venv`` holds all six packages, editable, and is shared by the everyday
sessions; it is rebuilt when a ``pyproject.toml`` or ``constraints.txt`` changes. The ``layer`` and
``minimal`` sessions install wheels from ``wheelhouse/`` into a new environment each time, because what
they prove is what a package declares.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
WHEELHOUSE = ROOT / "wheelhouse"

#: The sibling packages that each layer may see: what its wheel pulls in, and nothing else.
LOWER = {
    "comm": [],
    "core": ["comm"],
    "linalg": ["comm", "core"],
    "io": ["comm", "core"],
    "ml": ["comm", "core", "linalg", "io"],
    "meta": ["comm", "core", "linalg", "io", "ml"],
}
#: ht-comm is tested twice: with NumPy alone, and with torch.
VARIANTS = {"comm-torch": ("comm", "torch"), **{name: (name, "") for name in LOWER}}

RUFF = "ruff>=0.14,<0.18"
PYTEST_ENV = {"OMP_NUM_THREADS": "1"}  # several ranks share the cores: one thread each
#: Open MPI refuses root and more ranks than cores unless told otherwise; test machines have both.
OPENMPI_ENV = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}

nox.options.default_venv_backend = "uv"
nox.options.error_on_external_run = True
nox.options.sessions = ["tests"]


def _pip_settings() -> dict[str, str]:
    """What a user has told pip, by variables or files: {option: value}."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings: dict[str, str] = {}
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        settings.setdefault(name.rpartition(".")[2], ast.literal_eval(value))  # variables come first
    return settings


# uv reads none of that: hand it over, or an index, its certificate or local wheels would not be found.
PIP_TO_UV = {"find-links": "UV_FIND_LINKS", "index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
for _option, _value in _pip_settings().items():
    if _option in PIP_TO_UV:
        os.environ.setdefault(PIP_TO_UV[_option], ",".join(_value.split()))
for _variable in ("UV_CONSTRAINT", "PIP_CONSTRAINT"):
    os.environ.setdefault(_variable, "constraints.txt")  # relative: the variable is cut at spaces
# uv installs no byte code. Where Python may not write it either, each rank compiles torch at each start.
os.environ["PYTHONDONTWRITEBYTECODE"] = ""


def _uv() -> str:
    """Path of uv, whether it was installed beside nox or stands on PATH."""
    try:
        import uv
    except ImportError:
        path = shutil.which("uv")
        if path is None:
            raise RuntimeError("noxfile: uv must be installed; run: pip install uv") from None
        return path
    return uv.find_uv_bin()


def _stamp(*extra: str) -> str:
    """Hash of all that decides what an environment contains."""
    digest = hashlib.sha256()
    for path in [*sorted(ROOT.glob("packages/*/pyproject.toml")), ROOT / "constraints.txt"]:
        digest.update(path.read_bytes())
    for text in (sys.version, str(ROOT), *extra):
        digest.update(text.encode())
    return digest.hexdigest()


def _source_path() -> str:
    """PYTHONPATH that shows all six packages to a tool without installing them."""
    return os.pathsep.join(str(ROOT / f"packages/ht-{name}/src") for name in LOWER)


def _sources() -> list[str]:
    """Name and hash of every file that goes into a wheel."""
    files = [*ROOT.glob("packages/*/src/**/*"), *ROOT.glob("packages/*/[A-Z]*")]  # README.md, LICENSE, ...
    files = sorted(path for path in files if path.is_file() and path.suffix != ".pyc")
    return [f"{path}:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]


def _environment(session: nox.Session, venv: Path, *, mpi: str = "mpich") -> str:
    """Make `venv` with all six packages, editable, unless it is up to date; return its Python."""
    python = venv / "bin" / "python"
    stamp, stamp_file = _stamp(mpi), venv / "ht-stamp"
    if not (python.exists() and stamp_file.exists() and stamp_file.read_text() == stamp):
        extras = {"comm": f"[torch,{mpi},test]", "meta": "[demo,test]"}
        packages = [f"./packages/ht-{name}{extras.get(name, '[test]')}" for name in LOWER]
        editable = [word for package in packages for word in ("-e", package)]
        session.run(_uv(), "venv", "-q", "--clear", "--python", sys.executable, str(venv), external=True)
        session.run(_uv(), "pip", "install", "-q", "--python", str(python), *editable, external=True)
        stamp_file.write_text(stamp)
    return str(python)


def _mpiexec(python: str) -> str:
    """The launcher of the environment of `python`: never another MPI's that stands earlier on PATH."""
    return str(Path(python).parent / "mpiexec")


def _pytest(session: nox.Session, python: str, *args: str, env: dict[str, str] | None = None) -> None:
    """Run pytest with the interpreter and the MPI launcher of one environment."""
    settings = {**PYTEST_ENV, "HT_MPIEXEC": shlex.quote(_mpiexec(python)), **(env or {})}
    session.run(python, "-m", "pytest", *args, env=settings, external=True)


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """The whole pipeline on two ranks: image -> HDF5 -> clusters -> picture (options: -- --rows 20000)."""
    python = _environment(session, VENV)
    command = [_mpiexec(python), "-n", "2", python, "-m", "ht_meta", "demo"]
    session.run(*command, *session.posargs, external=True)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """All tests of all packages, on groups of 1, 2, 3 and 4 ranks (options go to pytest)."""
    _pytest(session, _environment(session, VENV), *session.posargs)


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """The tests that accept a device, on the GPU."""
    python = _environment(session, VENV)
    probe = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    found = session.run(python, "-c", probe, external=True, success_codes=[0, 1], silent=True)
    if found is not True:
        message = "torch finds no CUDA device here (a CPU build of torch, or no GPU)"
        session.error(message) if os.environ.get("HT_REQUIRE_GPU") else session.skip(message)
    _pytest(session, python, "--device", "gpu", *session.posargs)


@nox.session(venv_backend="none")
def openmpi(session: nox.Session) -> None:
    """All tests with Open MPI instead of MPICH."""
    python = _environment(session, ROOT / ".nox" / "openmpi-venv", mpi="openmpi")
    _pytest(session, python, *session.posargs, env=OPENMPI_ENV)


@nox.session(venv_backend="none")
def phdf5(session: nox.Session) -> None:
    """The tests of ht-io with h5py built for parallel HDF5, all writing through it (needs apt-get, dpkg, gcc)."""
    venv = ROOT / ".nox" / "phdf5-venv"
    python = _environment(session, venv)
    made = venv / "phdf5-made"
    if not made.exists():  # a new environment
        tool = "packages/ht-io/tools/parallel_hdf5.py"
        session.run(python, tool, str(venv), _uv(), external=True)
        made.touch()
    settings = {"LD_LIBRARY_PATH": str(venv / "phdf5" / "lib"), "HT_IO_ENGINE": "mpio"}
    _pytest(session, python, "packages/ht-io/tests", *session.posargs, env=settings)


@nox.session(venv_backend="none")
def hosts(session: nox.Session) -> None:
    """The contract of ht-comm on two ranks of each of two hosts, emulated by network namespaces (needs root)."""
    python = _environment(session, VENV)
    tests = "packages/ht-comm/tests/test_contract.py"
    command = [python, "-m", "ht_comm.hosts", "--", python, "-m", "pytest", "-m", "mpi", "--np", "4", tests]
    settings = {**PYTEST_ENV, "HT_MPIEXEC": shlex.quote(_mpiexec(python))}
    # 77: no hosts can be made here, which was said
    session.run(*command, *session.posargs, env=settings, external=True, success_codes=[0, 77])


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Lines and branches of ht-comm that its tests reach, in threads and in ranks (options go to pytest)."""
    python = _environment(session, VENV)
    session.run(_uv(), "pip", "install", "-q", "--python", python, "coverage>=7.10", external=True)
    shutil.rmtree(ROOT / "build/coverage", ignore_errors=True)
    (ROOT / "build/coverage").mkdir(parents=True)
    settings = {**PYTEST_ENV, "HT_MPIEXEC": shlex.quote(_mpiexec(python)), "HT_COVERAGE_ROOT": str(ROOT)}
    tool = [python, "-m", "coverage"]
    rc = "--rcfile=packages/ht-comm/coverage.ini"
    tests = ["-m", "pytest", "-q", "packages/ht-comm", *session.posargs]
    session.run(*tool, "run", rc, *tests, env=settings, external=True)
    session.run(*tool, "combine", "-q", rc, env=settings, external=True)
    session.run(*tool, "report", rc, env=settings, external=True)


@nox.session(venv_backend="none")
def mutants(session: nox.Session) -> None:
    """Whether the tests notice changes of the redistribution and slicing code (an hour; -- --only buffers)."""
    python = _environment(session, VENV)
    log = ["--log", "build/mutants.jsonl"]
    (ROOT / "build").mkdir(exist_ok=True)
    session.run(
        python, "packages/ht-comm/tools/mutate.py", *log, *session.posargs, env=PYTEST_ENV, external=True
    )


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Speed of the foundations on two ranks beside other libraries (options: -- --heat-python PYTHON)."""
    python = _environment(session, VENV)
    session.run(python, "benchmarks/foundations.py", *session.posargs, external=True)


@nox.session(reuse_venv=True)
def build(session: nox.Session) -> None:
    """Build the six wheels into wheelhouse/ (nothing to do where the sources have not changed)."""
    stamp, stamp_file = _stamp(*_sources()), WHEELHOUSE / "ht-stamp"
    if stamp_file.exists() and stamp_file.read_text() == stamp:
        return
    session.install("-q", "hatchling>=1.26")
    shutil.rmtree(WHEELHOUSE, ignore_errors=True)
    python = str(Path(session.bin) / "python")
    for name in LOWER:
        command = [_uv(), "build", "-q", "--wheel", "--no-build-isolation", "--python", python]
        session.run(*command, "-o", str(WHEELHOUSE), f"packages/ht-{name}", external=True)
    stamp_file.write_text(stamp)


def _install_wheels(session: nox.Session, *requirements: str, expect: list[str]) -> str:
    """Install from the wheelhouse into the session's new environment and check what came with it.

    Only what `requirements` name and declare may be there: a wheel that forgets a dependency fails its tests,
    a wheel that pulls in a higher layer fails here.
    """
    # Same version, new content: uv must not take a wheel from its cache.
    fresh = [word for name in LOWER for word in ("--refresh-package", f"ht-{name}")]
    session.install("-q", "--find-links", str(WHEELHOUSE), *fresh, *requirements)
    python = str(Path(session.bin) / "python")
    command = [_uv(), "pip", "list", "-q", "--python", python, "--format", "freeze"]
    listing = session.run(*command, external=True, silent=True)
    found = sorted(line.split("==")[0] for line in listing.splitlines() if line.startswith("ht-"))
    if found != sorted(f"ht-{name}" for name in expect):
        session.error(f"packages must be {expect}, got {found}")
    return python


def _version(name: str) -> str:
    """Version of ht-`name` as its source says."""
    namespace: dict[str, str] = {}
    exec((ROOT / f"packages/ht-{name}/src/ht_{name}/_version.py").read_text(), namespace)
    return namespace["__version__"]


@nox.session(requires=["build"])
@nox.parametrize("variant", [nox.param(name, id=name) for name in VARIANTS])
def layer(session: nox.Session, variant: str) -> None:
    """One layer's wheel with what it declares and nothing else; its own tests."""
    name, extra = VARIANTS[variant]
    extras = ",".join(filter(None, ["test", extra]))
    wanted = [f"ht-{name}[{extras}]=={_version(name)}", "ht-comm[mpich]"]
    python = _install_wheels(session, *wanted, expect=[*LOWER[name], name])
    if variant == "comm":
        probe = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"
        session.run(python, "-c", probe)  # fails where ht-comm alone would bring torch
    _pytest(session, python, f"packages/ht-{name}/tests", *session.posargs)


@nox.session(requires=["build"])
def minimal(session: nox.Session) -> None:
    """Two wheels out of the six, ht-core and ht-linalg, into a clean environment; their tests."""
    wanted = ["ht-core[test]", "ht-linalg[test]", "ht-comm[mpich]"]
    python = _install_wheels(session, *wanted, expect=["comm", "core", "linalg"])
    _pytest(session, python, "packages/ht-core/tests", "packages/ht-linalg/tests", *session.posargs)


@nox.session(reuse_venv=True)
def imports(session: nox.Session) -> None:
    """The layering contract: no package imports a higher one (.importlinter)."""
    session.install("-q", "import-linter>=2.5")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": _source_path()})


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Style and form of all Python files (ruff)."""
    session.install("-q", RUFF)
    session.run("ruff", "check", "-q", ".")
    session.run("ruff", "format", "-q", "--check", ".")


@nox.session(reuse_venv=True, name="format")
def format_(session: nox.Session) -> None:
    """Rewrite all Python files in the house form."""
    session.install("-q", RUFF)
    session.run("ruff", "check", "-q", "--fix", ".")
    session.run("ruff", "format", "-q", ".")


@nox.session(reuse_venv=True)
def workflows(session: nox.Session) -> None:
    """The hosted-CI files: against their published schema, and for unsafe patterns."""
    session.install("-q", "check-jsonschema>=0.33", "zizmor>=1.10")
    files = [str(path) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))]
    session.run("check-jsonschema", "-q", "--builtin-schema", "vendor.github-workflows", *files)
    session.run("zizmor", "-q", "--offline", "--no-progress", *files)


@nox.session(reuse_venv=True)
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs (its snippets run in `tests`)."""
    editable = [word for name in LOWER for word in ("-e", f"./packages/ht-{name}")]
    session.install("-q", "-r", "docs/requirements.txt", *editable)
    session.run("sphinx-build", "-q", "-W", "--keep-going", "docs", "build/docs", *session.posargs)
