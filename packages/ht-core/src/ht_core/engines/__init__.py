"""One engine per kind of operation: a pure, cached plan from layouts, then its execution on local tensors."""
