"""What the namespace can do, in the words of the Array API: ``ht.__array_namespace_info__()``."""

from __future__ import annotations

from . import devices, types

#: Versions of the standard that this namespace follows; the last one is the current one.
API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")

# torch's limit
_MAX_DIMENSIONS = 64
# float16 and bfloat16 are no part of the standard
_EXTRA = (types.float16, types.bfloat16)


class NamespaceInfo:
    """Capabilities, dtypes and devices of the namespace. Asking sends no message."""

    def capabilities(self) -> dict[str, bool | int | None]:
        """Return what the standard leaves optional.

        Examples
        --------
        >>> ht.__array_namespace_info__().capabilities()["boolean indexing"]
        True
        """
        return {
            "boolean indexing": True,
            "data-dependent shapes": True,
            "max dimensions": _MAX_DIMENSIONS,
        }

    def default_device(self) -> devices.Device:
        """Return the device on which arrays are made unless told otherwise."""
        return devices.get_device()

    def devices(self) -> tuple[devices.Device, ...]:
        """Return the devices of this rank: the CPU, and its GPU where it has one."""
        found = [devices.cpu]
        if devices.has_gpu():
            found.append(devices.sanitize_device("gpu"))
        return tuple(found)

    def default_dtypes(self, *, device: object = None) -> dict[str, types.dtype]:
        """Return the dtypes of arrays made from Python numbers, and of indices."""
        devices.sanitize_device(device)
        return {
            "real floating": types.float64,
            "complex floating": types.complex128,
            "integral": types.int64,
            "indexing": types.int64,
        }

    def dtypes(
        self, *, device: object = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, types.dtype]:
        """Return the standard's dtypes by name, those of a kind or of one of several kinds where given.

        Raises
        ------
        ValueError
            If the kind is unknown.

        Examples
        --------
        >>> list(ht.__array_namespace_info__().dtypes(kind="complex floating"))
        ['complex64', 'complex128']
        """
        devices.sanitize_device(device)
        standard = {name: d for name, d in types.DTYPES.items() if d not in _EXTRA}
        return standard if kind is None else {n: d for n, d in standard.items() if types.isdtype(d, kind)}


def namespace_info() -> NamespaceInfo:
    """Return what the Array API calls the inspection object of this namespace."""
    return NamespaceInfo()
