"""Give an environment an h5py that is built with parallel HDF5, without changing the system.

    python parallel_hdf5.py ENVIRONMENT UV

Debian's HDF5 for MPICH is downloaded and unpacked into ENVIRONMENT/phdf5; h5py is compiled against it with the
compiler wrapper of the environment's own MPICH (the package `mpich`), about two minutes. Debian's library asks for
``libmpich.so.12``: a library of that name without contents leads it to the MPICH that mpi4py uses, for two MPI
libraries in one process would crash it. Whoever runs that Python sets ``LD_LIBRARY_PATH`` to ENVIRONMENT/phdf5/lib.
Needs apt-get, dpkg and gcc.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DEVELOPMENT = "libhdf5-mpich-dev"
BUILD = ("setuptools>=77", "wheel", "cython<3.3", "pkgconfig")


def packages() -> list[str]:
    """Names of the Debian packages: headers, the library of this release, what compresses for it."""
    command = ["apt-cache", "depends", DEVELOPMENT]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"Depends: (libhdf5-mpich-(?:hl-)?\d\S*)", listing)
    return [DEVELOPMENT, *found, "libsz2", "libaec0"]


def unpack(folder: Path) -> None:
    """Put libraries into folder/lib and headers into folder/include."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["apt-get", "download", "-q", *packages()], cwd=place, check=True)
        for archive in Path(place).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), place], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(place, "usr/include/hdf5/mpich"), folder / "include")
        (folder / "lib").mkdir()
        for library in Path(place, "usr/lib").glob("*-linux-gnu/*.so*"):
            shutil.copy2(library, folder / "lib", follow_symlinks=False)
    for name in ("hdf5", "hdf5_hl"):
        (folder / f"lib/lib{name}.so").symlink_to(f"lib{name.replace('hdf5', 'hdf5_mpich')}.so")


def redirect(folder: Path, environment: Path) -> None:
    """Make the empty libmpich.so.12 that leads to the environment's libmpi.so.12."""
    libraries = environment / "lib"
    source = folder / "empty.c"
    source.touch()
    links = ["-Wl,-soname,libmpich.so.12", "-Wl,--no-as-needed", f"-Wl,-rpath,{libraries}"]
    target = folder / "lib/libmpich.so.12"
    command = ["gcc", "-shared", "-o", str(target), str(source), *links, str(libraries / "libmpi.so.12")]
    subprocess.run(command, check=True)


def build(folder: Path, environment: Path, uv: str) -> None:
    """Compile h5py in place of the wheel."""
    python = str(environment / "bin/python")
    install = [uv, "pip", "install", "-q", "--python", python]
    subprocess.run([*install, *BUILD], check=True)
    settings = {
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "CC": str(environment / "bin/mpicc"),
        "CFLAGS": "-O1",
        "HDF5_MPI": "ON",
        "H5PY_SETUP_REQUIRES": "0",  # else another mpi4py is compiled
        "HDF5_INCLUDEDIR": str(folder / "include"),
        "HDF5_LIBDIR": str(folder / "lib"),
        "PATH": os.pathsep.join([str(environment / "bin"), os.environ["PATH"]]),
    }
    wanted = ["--no-build-isolation", "--no-deps", "--reinstall", "--no-cache", "--no-binary", "h5py", "h5py"]
    subprocess.run([*install, *wanted], check=True, env={**os.environ, **settings})


if __name__ == "__main__":
    environment = Path(sys.argv[1]).resolve()
    folder = environment / "phdf5"
    unpack(folder)
    redirect(folder, environment)
    build(folder, environment, sys.argv[2])
