"""`DetectMetricPlateau`: has a loss stopped improving? Knows numbers only."""

from __future__ import annotations

import math
from typing import Any


class DetectMetricPlateau:
    """Tells when a metric has not improved for more than `patience` calls.

    Parameters
    ----------
    mode : "min" or "max"
        What an improvement is.
    patience : int
        Number of calls without improvement that are tolerated.
    threshold : float
        Least change that counts, relative to the best value or absolute.
    threshold_mode : "rel" or "abs"
        Which of the two.
    cooldown : int
        Calls after a plateau during which nothing is counted.

    Examples
    --------
    >>> detector = ht.optim.DetectMetricPlateau(patience=1)
    >>> [detector.test_if_improving(loss) for loss in (1.0, 0.5, 0.5, 0.5, 0.5)]
    [False, False, False, True, False]
    """

    def __init__(
        self,
        mode: str = "min",
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"DetectMetricPlateau: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"DetectMetricPlateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}"
            )
        if patience < 0 or cooldown < 0 or threshold < 0:
            raise ValueError(
                "DetectMetricPlateau: patience, cooldown and threshold must not be negative, got "
                f"{patience!r}, {cooldown!r}, {threshold!r}"
            )
        self.mode, self.patience, self.cooldown = mode, patience, cooldown
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.best = math.inf if self.mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether a plateau was found less than `cooldown` calls ago."""
        return self.cooldown_counter > 0

    def is_better(self, value: float, best: float) -> bool:
        """Tell whether `value` improves on `best` by more than the threshold."""
        if math.isinf(best):
            return value < best if self.mode == "min" else value > best
        margin = self.threshold * (abs(best) if self.threshold_mode == "rel" else 1.0)
        return value < best - margin if self.mode == "min" else value > best + margin

    def test_if_improving(self, metric: float) -> bool:
        """Take the next value; return True where a plateau is found (NaN is no improvement)."""
        value = float(metric)
        if self.is_better(value, self.best):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs <= self.patience:
            return False
        self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        return True

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs to go on from here."""
        return dict(vars(self))

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where `get_state` was called."""
        vars(self).update({name: state[name] for name in vars(self)})
