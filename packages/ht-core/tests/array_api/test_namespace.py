"""Array API 2025.12: names, signatures, constants, methods and the namespace's own description.

What the standard has is read off array-api-strict, the reference implementation of its text.
"""

import importlib.util
import inspect
import operator

import array_api_strict as strict
import ht_core as ht
import numpy as np
import pytest

NO_FUNCTIONS = {
    "ArrayAPIStrictFlags",
    "Device",
    "__version__",
    "fft",
    "get_array_api_strict_flags",
    "linalg",
    "reset_array_api_strict_flags",
    "set_array_api_strict_flags",
}
HAS_LINALG = importlib.util.find_spec("ht_linalg") is not None
HIGHER = set() if HAS_LINALG else set(ht.upper_layers.names())
NAMES = sorted(set(strict.__all__) - NO_FUNCTIONS - HIGHER)
FUNCTIONS = [n for n in NAMES if inspect.isfunction(getattr(strict, n))]
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_present(name):
    assert hasattr(ht, name)
    assert name in dir(ht)


def assert_signature_holds(ours, standard):
    """Check that a call that the standard allows binds; more parameters are allowed where they have defaults."""
    mine = inspect.signature(ours).parameters
    catch_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in mine.values())
    positional = [p for p in mine.values() if p.kind in POSITIONAL]
    varies = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in mine.values())
    given = [p for p in inspect.signature(standard).parameters.values() if p.name != "self"]
    place = 0
    for p in given:
        if p.kind in POSITIONAL:
            assert varies or place < len(positional), f"{p.name} cannot be given by position"
            if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and not varies:
                assert positional[place].name == p.name
            place += 1
        if p.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            assert catch_all or p.name in mine, f"{p.name} is missing"
            assert catch_all or mine[p.name].kind is not inspect.Parameter.POSITIONAL_ONLY
    for p in positional[place:]:
        assert p.default is not inspect.Parameter.empty, f"{p.name} must have a default"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature(name):
    assert_signature_holds(getattr(ht, name), getattr(strict, name))


METHODS = [
    n
    for n, f in vars(type(strict.asarray(0))).items()
    if inspect.isfunction(f) and (not n.startswith("_") or n.startswith("__")) and n != "__buffer__"
]
ATTRIBUTES = ["dtype", "device", "mT", "ndim", "shape", "size", "T"]


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("__new__", "__init__", "__hash__")])
def test_method_is_present(name):
    assert callable(getattr(ht.DNDarray, name))


def test_attributes():
    x = ht.ones((2, 3), split=0)
    assert all(hasattr(x, name) for name in ATTRIBUTES)
    assert x.T.shape == x.mT.shape == (3, 2)
    assert (x.ndim, x.size, x.shape, x.dtype) == (2, 6, (2, 3), ht.float64)
    assert x.to_device(x.device) is x
    with pytest.raises(ValueError, match=r"mT|matrix"):
        _ = ht.ones(3).mT


def test_constants():
    assert ht.e == np.e
    assert ht.pi == np.pi
    assert ht.inf == np.inf
    assert ht.nan != ht.nan
    assert ht.newaxis is None
    assert ht.__array_api_version__ == "2025.12"


@pytest.mark.parametrize("version", [None, "2022.12", "2023.12", "2024.12", "2025.12"])
def test_array_namespace(version):
    assert ht.ones(3).__array_namespace__(api_version=version) is ht


def test_parameters_have_the_standards_names():
    """Of functions that take more than the standard lets them, and of methods."""
    _, shape, *_ = inspect.signature(ht.reshape).parameters.values()
    assert (shape.name, shape.kind) == ("shape", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    x = ht.arange(6, split=0)
    assert x.reshape(2, 3).shape == x.reshape((2, 3)).shape == x.reshape(shape=(2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match="shape must be given"):
        x.reshape()
    export = inspect.signature(ht.DNDarray.__dlpack__).parameters
    assert list(export) == ["self", "stream", "max_version", "dl_device", "copy"]
    assert np.from_dlpack(x).tolist() == list(range(6))


@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_that_is_none_is_an_index_error(axis):
    x = ht.ones((2, 3), split=0)
    with pytest.raises(IndexError, match="expand_dims: axis must be in"):
        ht.expand_dims(x, axis=axis)
    with pytest.raises(ValueError, match="sum: axis must be in"):  # NumPy's is both, too
        ht.sum(x, axis=axis)


def test_unknown_version_is_refused():
    with pytest.raises(ValueError, match="api_version"):
        ht.ones(3).__array_namespace__(api_version="1999.01")


def test_info():
    info = ht.__array_namespace_info__()
    assert set(info.capabilities()) == {"boolean indexing", "data-dependent shapes", "max dimensions"}
    assert isinstance(info.devices(), tuple)
    assert info.default_device() in info.devices()
    assert info.default_dtypes() == {
        "real floating": ht.float64,
        "complex floating": ht.complex128,
        "integral": ht.int64,
        "indexing": ht.int64,
    }
    theirs = strict.__array_namespace_info__()
    kinds = [
        None,
        "bool",
        "signed integer",
        "unsigned integer",
        "integral",
        "real floating",
        "complex floating",
        "numeric",
        ("bool", "integral"),
        (),
    ]
    for kind in kinds:
        ours = info.dtypes(kind=kind)
        assert set(ours) == set(theirs.dtypes(kind=kind))
        assert all(getattr(ht, n) is d for n, d in ours.items())
    for device in info.devices():
        assert ht.zeros(2, device=device).device == device
    with pytest.raises(ValueError, match="kind"):
        info.dtypes(kind="numbers")


CONVERSIONS = [
    (bool, True),
    (int, 3),
    (int, -2.75),
    (float, 2.5),
    (float, True),
    (complex, 1 + 2j),
    (complex, 3),
    (operator.index, 5),
]


@pytest.mark.parametrize(("convert", "value"), CONVERSIONS)
def test_conversion_to_python(convert, value):
    result = convert(ht.asarray(value))
    assert type(result) is type(convert(value))
    assert result == convert(value)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_conversion_of_specials(value):
    assert str(float(ht.asarray(value))) == str(value)
    assert bool(ht.asarray(value)) is True
    with pytest.raises((OverflowError, ValueError)):
        int(ht.asarray(value))


@pytest.mark.parametrize(
    ("convert", "value"), [(operator.index, 1.0), (operator.index, True), (float, 1j), (int, 1j)]
)
def test_conversions_that_the_standard_has_not(convert, value):
    with pytest.raises(TypeError):
        convert(ht.asarray(value))


def test_names_of_higher_wheels_are_resolved_or_named():
    if HAS_LINALG:
        assert ht.linalg.__name__ == "ht_linalg"
        assert ht.matmul is ht.linalg.matmul
    else:
        with pytest.raises(ht.MissingLayerError, match="pip install ht-linalg"):
            _ = ht.matmul
    with pytest.raises(AttributeError, match="no attribute"):
        _ = ht.no_such_name


def test_signatures_of_extensions():
    for extension in ("linalg", "fft") if HAS_LINALG else ():
        ours, theirs = getattr(ht, extension), getattr(strict, extension)
        for name in theirs.__all__:
            if hasattr(ours, name):
                assert_signature_holds(getattr(ours, name), getattr(theirs, name))
