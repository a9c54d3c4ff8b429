"""The dimensions of a NetCDF-4 file, which are HDF5 dimension scales. Runs on rank 0 only; sends nothing.

Format: Unidata, *NetCDF-4 file format specification* (appendix of the NetCDF user's guide).
"""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import numpy as np

from ._version import __version__
from .hdf5_create import set_attributes
from .hdf5_scales import ID, axis_scales, find_scales, users
from .netcdf_read import NO_VARIABLE
from .plan_netcdf import NetCDFPlan, find_home
from .plan_write import Item


class Dimensions:
    """Makes the dimensions of a plan in a file, or finds them there, and attaches them to the variables."""

    def __init__(self, plan: NetCDFPlan, file_attrs: Mapping[str, object], op: str) -> None:
        self._plan, self._file_attrs, self._op = plan, file_attrs, op
        self._known: dict[tuple[str, str], h5py.Dataset] = {}

    def prepare(self, file: h5py.File) -> None:
        """Before the variables are made: groups that keep their order, attributes of the file."""
        if not file.keys() and not file.attrs.keys():
            versions = f"hdf5={h5py.version.hdf5_version},h5py={h5py.__version__}"
            file.attrs["_NCProperties"] = np.bytes_(f"version=2,ht_io={__version__},{versions}")
        set_attributes(file, self._file_attrs, self._op)
        self._known = find_scales(file)
        for item in self._plan.items:
            group, path = item.name.rpartition("/")[0], ""
            for part in filter(None, group.split("/")):
                path = f"{path}/{part}"
                if path not in file:
                    file.create_group(path, track_order=True)
        self._check_known()

    def finish(self, file: h5py.File, items: list[Item]) -> None:
        """After the variables are made: scales of their own, scales without values, links to both."""
        number = 1 + max((int(d.attrs.get(ID, -1)) for d in self._known.values()), default=-1)
        coordinates = {}
        for item in items:
            group, _, base = item.name.rpartition("/")
            if item.dims and item.dims[0] == base:
                coordinates[group, base] = file[item.name]
        for (group, name), extent in self._plan.extents.items():
            if find_home(self._known, group, name) is not None:
                continue
            scale = coordinates.get((group, name))
            if scale is None:
                scale = self._make_empty(file, group, name, extent)
            else:
                scale.make_scale(name)
            scale.attrs[ID] = np.int32(number)
            self._known[group, name] = scale
            number += 1
        for item in items:
            self._attach(file[item.name], item)

    def _check_known(self) -> None:
        for (group, name), extent in self._plan.extents.items():
            home = find_home(self._known, group, name)
            if home is not None and self._known[home, name].shape[0] != extent:
                raise ValueError(
                    f"{self._op}: dimension_names must fit the file, where {name!r} has "
                    f"{self._known[home, name].shape[0]} indices, got it for {extent}"
                )

    def _make_empty(self, file: h5py.File, group: str, name: str, extent: int) -> h5py.Dataset:
        """Make the scale of a dimension without coordinates: its elements are never written."""
        place = file[group] if group else file
        if name in place:
            raise ValueError(
                f"{self._op}: dimension_names must not be names of variables that are not their coordinates, "
                f"got {name!r}"
            )
        growing = {"maxshape": (None,), "chunks": (1024,)} if name in self._plan.unlimited else {}
        made = place.create_dataset(name, (extent,), ">f4", **growing)
        made.make_scale(f"{NO_VARIABLE.decode()}.{extent:10d}")
        return made

    def _attach(self, made: h5py.Dataset, item: Item) -> None:
        group = item.name.rpartition("/")[0]
        scales = [self._known[find_home(self._known, group, name), name] for name in item.dims]
        if made.is_scale:
            if len(scales) > 1:  # a scale cannot have scales: netCDF lists the numbers of its dimensions
                made.attrs["_Netcdf4Coordinates"] = np.array([s.attrs[ID] for s in scales], dtype="i4")
            return
        for axis, scale in zip(made.dims, scales):
            axis.attach_scale(scale)


def grow_dimensions(file: h5py.File, items: list[Item]) -> None:
    """Let everything along the dimensions that `items` will make longer grow with them, which are to be made longer
    themselves.
    """
    own = {f"/{item.name}" for item in items}
    for item in items:
        for axis, scale in enumerate(axis_scales(file[item.name])):
            extent = item.place.after[axis]
            if scale is None or extent <= item.place.before[axis]:
                continue
            for dataset, place in users(scale):
                is_short = dataset.shape[place] < extent and dataset.maxshape[place] is None
                if is_short and dataset.name not in own:
                    dataset.resize(extent, place)
