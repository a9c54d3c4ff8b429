import doctest

import ht_core
import pytest


@pytest.fixture(autouse=True)
def _doctest_names(request):
    if isinstance(request.node, doctest.DocTest) or request.node.__class__.__name__ == "DoctestItem":
        request.getfixturevalue("doctest_namespace")["ht"] = ht_core
