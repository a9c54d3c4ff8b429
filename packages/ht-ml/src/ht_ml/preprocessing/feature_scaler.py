"""What scalers share: ``(x - offset) / scale``, feature by feature, tile by tile, in place where asked; no message."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..base import BaseEstimator, TransformerMixin, check_is_fitted
from ..rows import as_table, source_and_target
from ..tiles import spans, tile_rows, wide_row


class FeatureScaler(TransformerMixin, BaseEstimator):
    """Base of the scalers. A subclass learns, and says in `_map` by what it shifts and scales."""

    copy: bool
    n_features_in_: int

    def _map(self) -> tuple[DNDarray | None, DNDarray | None]:
        """Return offset and scale, each of shape (d,), float64, replicated; None for 0 and 1."""
        raise TypeError(f"{type(self).__name__}: a scaler must define _map, got none")

    def _limits(self) -> tuple[float, float] | None:
        """Return the interval that transformed values are clipped to, None for no clipping."""
        return None

    def transform(self, X: Any, copy: bool | None = None) -> DNDarray:
        """Return `X` scaled, of its dtype and distribution; `X` itself with ``copy=False``.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
            Half precision becomes float32, integers become float64.
        copy : bool, optional
            Overrides the parameter `copy`.

        *Distribution*: any split; no message.

        Raises
        ------
        DTypeError
            With ``copy=False``, if the dtype of `X` is neither float32 nor float64.
        """
        return self._apply("transform", X, copy)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> DNDarray:
        """Return the values that `transform` would map to `X`; the same conventions."""
        return self._apply("inverse_transform", X, copy)

    def _apply(self, method: str, X: Any, copy: bool | None) -> DNDarray:
        op = f"{type(self).__name__}.{method}"
        check_is_fitted(self)
        X = as_table(op, X, n_features=self.n_features_in_)
        in_place = not (self.copy if copy is None else copy)
        local, out = source_and_target(op, X, in_place)
        columns = X.layout.slices(X.comm.rank)[1]
        offset, scale = (None if v is None else v.larray[columns].to(local.device) for v in self._map())
        offset = None if offset is None else offset.to(local.dtype)
        if method == "transform":
            # The reciprocal is taken in float64 and rounded once.
            factor = None if scale is None else scale.reciprocal().to(local.dtype)
            _scale_tiles(local, out, offset, factor, self._limits())
        else:
            _restore_tiles(local, out, offset, None if scale is None else scale.to(local.dtype))
        return X if in_place else DNDarray(out, X.layout, X.comm)


def _tiles(local: torch.Tensor, out: torch.Tensor, *rows: torch.Tensor | None):
    """Yield (source, target, *rows) for tiles that stay in the cache."""
    n, d = local.shape
    step = min(max(n, 1), tile_rows(d, local.device))
    operands = [wide_row(row, step) for row in rows]
    for span in spans(n, step):
        height = span.stop - span.start
        yield (
            local[span],
            out[span],
            *(v if v is None or v.ndim == 1 else v[:height] for v in operands),
        )


def _scale_tiles(local, out, offset, factor, limits) -> None:
    # Subtract first: x / s - m / s would lose the digits that x and m share.
    for source, target, shift, scale in _tiles(local, out, offset, factor):
        if shift is not None:
            source = torch.sub(source, shift, out=target)
        if scale is not None:
            source = torch.mul(source, scale, out=target)
        if source is not target:
            target.copy_(source)
        if limits is not None:
            target.clamp_(*limits)


def _restore_tiles(local, out, offset, factor) -> None:
    for source, target, shift, scale in _tiles(local, out, offset, factor):
        if scale is not None:
            source = torch.mul(source, scale, out=target)
        if shift is not None:
            source = torch.add(source, shift, out=target)
        if source is not target:
            target.copy_(source)
