"""Errors of ht-core. Each is the same on every rank and is raised before the first message."""


class LayoutError(ValueError):
    """A shape, axis or distribution does not fit the operation."""


class AxisError(LayoutError, IndexError):
    """An axis is none of the array's; an IndexError as well, as the Array API asks for."""


class DTypeError(TypeError):
    """A data type is unknown or not accepted by the operation."""


class MissingLayerError(AttributeError):
    """The name exists, but in a wheel that is not installed; the text says which one to install."""


class GradientError(RuntimeError):
    """A gradient is asked for where there is none, or an array that requires one is used where it would be lost."""


class MemoryBudgetError(MemoryError):
    """A result would take more memory than ``memory_budget`` allows."""
