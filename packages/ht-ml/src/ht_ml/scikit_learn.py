"""What scikit-learn expects of an estimator that is used with it: tags, and its own class of errors.

It is imported only where it calls, or where it is loaded already: nothing in this package needs it.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any


def tags(estimator: Any) -> Any:
    """Return the ``sklearn.utils.Tags`` of an estimator.

    They follow from its methods and from three class attributes: ``_estimator_type`` (None), ``_requires_fit`` (True)
    and ``_takes_targets`` (False), whether ``y`` may have several columns.
    """
    from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags, TransformerTags

    kind = getattr(estimator, "_estimator_type", None)
    return Tags(
        estimator_type=kind,
        target_tags=TargetTags(
            required=kind in ("classifier", "regressor"),
            one_d_labels=kind == "classifier",
            multi_output=getattr(estimator, "_takes_targets", False),
        ),
        transformer_tags=TransformerTags(["float64", "float32"]) if hasattr(estimator, "transform") else None,
        classifier_tags=ClassifierTags() if kind == "classifier" else None,
        regressor_tags=RegressorTags() if kind == "regressor" else None,
        requires_fit=getattr(estimator, "_requires_fit", True),
        input_tags=InputTags(),
    )


def both_errors(own: type[Exception]) -> type[Exception]:
    """Return an error class, where scikit-learn is loaded one that its error of the same name catches too."""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), own.__name__, None)
    return own if theirs is None else _joined(own, theirs)


@cache
def _joined(own: type[Exception], theirs: type[Exception]) -> type[Exception]:
    def reduce(error: Exception) -> tuple:  # the class has no place of its own to be found at
        return own, error.args

    names = {"__module__": own.__module__, "__doc__": own.__doc__, "__reduce__": reduce}
    return type(own.__name__, (own, theirs), names)
