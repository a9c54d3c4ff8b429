"""Present an estimator of this package to scikit-learn's checks: NumPy in, NumPy out, on one rank or on several.

On several ranks every call is an SPMD run of its own: the rows are cut unevenly, the estimator travels from call to
call as a pickle of each rank, and the ranks must agree on whatever is replicated and on every refusal of a fit.
"""

import functools
import inspect
import pickle
import re
from collections import namedtuple

import ht_core as ht
import numpy as np
from ht_comm import spmd
from ht_ml.base import BaseEstimator, ClusterMixin, MethodIf
from ml_tables import table
from sklearn.base import ClusterMixin as TheirClusterMixin

#: What we refuse in words of our own: (our text, their class, what their checks look for).
WORDS = (
    (r"X must have the (\d+) features it was fitted with, got (\d+)", ValueError,
     r"X has \2 features, but {name} is expecting \1 features as input"),
    (r"X must be real, got complex", ValueError, "Complex data not supported"),
    (r"X must hold numbers, got an object: (float\(\) argument must be a string or a real number)", TypeError, r"\1"),
    (r"X must be a table of at least \d row\(s\) and 1 feature, got shape \((\d+), 0\)", ValueError,
     r"0 feature(s) (shape=(\1, 0)) while a minimum of 1 is required."),
    (r"X must be two-dimensional .* reshape", ValueError, "Reshape your data"),
    (r"sample_weight must have a positive sum", ValueError, "the weights are all zero"),
    (r"X must be a table of at least 2 row\(s\)", ValueError, "n_samples = 1"),
    (r"y must be given, got None", ValueError, "requires y to be passed, but the target y is None"),
    (r"y must hold at least two classes", ValueError, "only one class, 1 class"),
)  # fmt: skip
#: A rank's part of a result, and how it lies.
_Part = namedtuple("_Part", ["layout", "local"])
_PER_ROW = ("X", "y", "sample_weight")
_FITS = ("fit", "partial_fit", "fit_predict", "fit_transform")
_CLASSES: dict = {}


def adapted(estimator, ranks):
    """Return an estimator for scikit-learn's checks that works like `estimator` on `ranks` ranks."""
    key = type(estimator).__name__, ranks
    if key not in _CLASSES:
        _CLASSES[key] = _adapted_class(type(estimator), ranks)
    return _CLASSES[key](**estimator.get_params(deep=False))


class _Adapter(BaseEstimator):
    """Calls the methods of `_own` on `_ranks` ranks."""

    def _fresh(self):
        return self._own(**self.get_params(deep=False))

    def __sklearn_tags__(self):
        return self._fresh().__sklearn_tags__()

    def __reduce__(self):
        return _restored, (self._own, self._ranks, vars(self))

    def _call(self, name, arguments):
        alone = self._ranks == 1
        run = _on_one_rank if alone else functools.partial(spmd, self._ranks, _on_several_ranks)
        try:
            outcomes = run(self, name, arguments)
            result, learned, state = outcomes[0] if alone else _merged(name, outcomes)
        except Exception as error:
            raise _in_their_words(error, self._own.__name__) from error
        if name in _FITS:
            vars(self).update(learned, _state=state)
        else:
            known = {key for key in vars(self) if key.endswith("_")}
            if not learned.keys() <= known:
                raise AssertionError(f"{name}: must learn nothing, got {learned.keys() - known}")
        return self if isinstance(result, BaseEstimator) else result


def _adapted_class(own, ranks):
    members = {"_own": own, "_ranks": ranks, "__init__": _init(own), "__doc__": own.__doc__}
    for name in dir(own):
        static = inspect.getattr_static(own, name)
        if name.startswith("_") or name in ("get_params", "set_params") or not callable(getattr(own, name)):
            continue
        method = _method(getattr(own, name), name)
        if isinstance(static, MethodIf):
            method = MethodIf(lambda self, name: getattr(self._fresh(), name))(method)
        members[name] = method
    bases = (TheirClusterMixin, _Adapter) if issubclass(own, ClusterMixin) else (_Adapter,)
    return type(own.__name__, bases, members)


def _init(own):
    """Return an ``__init__`` that does what ours do: keep the parameters."""
    signature = inspect.signature(own.__init__)

    @functools.wraps(own.__init__)
    def init(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        vars(self).update({name: value for name, value in bound.arguments.items() if name != "self"})

    return init


def _method(function, name):
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(self, *args, **kwargs):
        return self._call(name, signature.bind(self, *args, **kwargs).arguments)

    return call


def _restored(own, ranks, state):
    made = adapted(own(), ranks)
    vars(made).update(state)
    return made


def _outcome(estimator, name, arguments):
    given = {key: value for key, value in arguments.items() if key != "self"}
    return getattr(estimator, name)(**given)


def _prepared(self, estimator):
    for name, value in self.get_params(deep=False).items():
        setattr(estimator, name, value)
    return estimator


def _on_one_rank(self, name, arguments):
    """Give what was given, as a user with NumPy arrays does."""
    estimator = _prepared(self, getattr(self, "_state", None) or self._fresh())
    result = _outcome(estimator, name, arguments)
    return [(_to_numpy(result), {k: _to_numpy(v) for k, v in _learned(estimator).items()}, estimator)]


def _to_numpy(value):
    if isinstance(value, tuple):
        return tuple(_to_numpy(v) for v in value)
    return value.numpy() if isinstance(value, ht.DNDarray) else value


def _learned(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def _on_several_ranks(comm, self, name, arguments):
    state = getattr(self, "_state", None)
    estimator = _prepared(self, self._fresh() if state is None else pickle.loads(state[comm.rank]))
    cut = {key: _cut(key, value, comm) for key, value in arguments.items()}
    try:
        result = _outcome(estimator, name, cut)
    except Exception as error:  # the others may not know of it: no message from here on
        return error, {}, None
    result = estimator if result is estimator else _taken(result)
    return result, {k: _taken(v) for k, v in _learned(estimator).items()}, pickle.dumps(estimator)


def _cut(key, value, comm):
    """Return one-per-row data with numbers in it cut unevenly (X) or evenly (the others), anything else as it is."""
    if key not in _PER_ROW or value is None or hasattr(value, "nnz"):
        return value
    values = np.asarray(value)
    if values.dtype.kind not in "biufc" or not values.ndim:
        return value
    return table(np.ascontiguousarray(values), comm, "uneven" if key == "X" else "even")


def _taken(value):
    if isinstance(value, tuple):
        return tuple(_taken(v) for v in value)
    if isinstance(value, ht.DNDarray):
        return _Part(value.layout, value.larray.detach().clone().numpy())
    return value


def _merged(name, outcomes):
    errors = [result for result, _, _ in outcomes if isinstance(result, Exception)]
    if errors:
        if name in _FITS and len({(type(e), str(e)) for e in errors}) * len(errors) != len(outcomes):
            raise AssertionError(f"{name}: ranks must agree, got {errors}")
        raise errors[0]
    results, learned, state = zip(*outcomes)
    joined = {key: _joined([part[key] for part in learned]) for key in learned[0]}
    return _joined(results), joined, list(state)


def _joined(parts):
    """Return the global value of what the ranks hold; replicated values must have the same bits."""
    first = parts[0]
    if isinstance(first, _Part):
        if first.layout.split is not None:
            return np.concatenate([part.local for part in parts], axis=first.layout.split)
        for part in parts[1:]:
            np.testing.assert_array_equal(part.local, first.local)
        return first.local
    if isinstance(first, tuple):
        return tuple(_joined([part[i] for part in parts]) for i in range(len(first)))
    return first


def _in_their_words(error, name):
    for ours, kind, theirs in WORDS:
        found = re.search(ours, str(error))
        if found:
            return kind(
                f"{found.expand(theirs.format(name=name) if '{name}' in theirs else theirs)}: {error}"
            )
    return error
