"""Dimension scales of HDF5 files: names and common lengths of axes, as NetCDF-4 means them. Sends nothing.

Format: The HDF Group, *HDF5 dimension scale specification*; Unidata, *NetCDF-4 file format specification*.
"""

from __future__ import annotations

import contextlib

import h5py
import numpy as np

ID = "_Netcdf4Dimid"
_COORDINATES = "_Netcdf4Coordinates"


def axis_scales(dataset: h5py.Dataset) -> tuple[h5py.Dataset | None, ...]:
    """Return the first scale of each axis of a data set, None for an axis without one."""
    if dataset.is_scale:
        if dataset.ndim == 1:
            return (dataset,)
        ids = np.atleast_1d(dataset.attrs.get(_COORDINATES, ())).tolist()
        by_id = {int(scale.attrs.get(ID, -1)): scale for scale in find_scales(dataset.file).values()}
        found = [by_id.get(number) for number in ids]
        return tuple(found) if len(found) == dataset.ndim else (None,) * dataset.ndim
    return tuple(axis[0] if len(axis) else None for axis in dataset.dims)


def axis_names(dataset: h5py.Dataset) -> tuple[str | None, ...]:
    """Return the names of the axes: those of their scales, or their labels."""
    labels = ["" if dataset.is_scale else axis.label for axis in dataset.dims]
    scales = axis_scales(dataset)
    names = (s.name.rpartition("/")[2] if s is not None else t for s, t in zip(scales, labels))
    return tuple(name or None for name in names)


def find_scales(file: h5py.File) -> dict[tuple[str, str], h5py.Dataset]:
    """Return the dimension scales of a file by group and name."""
    found: dict[tuple[str, str], h5py.Dataset] = {}

    def visit(path: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and node.is_scale:
            group, _, name = path.rpartition("/")
            found[group, name] = node

    file.visititems(visit)
    return found


def users(scale: h5py.Dataset) -> list[tuple[h5py.Dataset, int]]:
    """Return the data sets that have the scale, each with the axis; the scale itself is one if it is a coordinate."""
    found = [(scale, 0)] if scale.ndim else []
    for reference, axis in scale.attrs.get("REFERENCE_LIST", ()):
        dataset = None
        with contextlib.suppress(ValueError, KeyError):  # of what somebody has deleted
            dataset = scale.file[reference] if reference else None
        if isinstance(dataset, h5py.Dataset) and axis < dataset.ndim:
            found.append((dataset, int(axis)))
    return found


def common_length(scale: h5py.Dataset) -> int:
    """Return the length of a dimension: that of its longest variable, as the netCDF library has it."""
    return max((dataset.shape[axis] for dataset, axis in users(scale)), default=0)


def common_shape(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return the extents of a NetCDF-4 variable, which may be more than have been written along axes that can grow."""
    shape = list(dataset.shape)
    if dataset.chunks is None:
        return tuple(shape)
    for axis, limit in enumerate(dataset.maxshape):
        scale = axis_scales(dataset)[axis] if limit is None else None
        if scale is not None:
            shape[axis] = max(shape[axis], common_length(scale))
    return tuple(shape)
