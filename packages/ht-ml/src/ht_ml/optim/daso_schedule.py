"""When DASO synchronises: phases of the training and the skips within them. Numbers only, the same on every rank."""

from __future__ import annotations

from .plateau import DetectMetricPlateau


class DasoSchedule:
    """Warm-up and cool-down block after every batch; in between, skips shrink on a plateau and start again at the end.

    Parameters
    ----------
    total_epochs, warmup_epochs, cooldown_epochs : int
        Length of the training and of the phases at its ends.
    max_global_skips : int
        Batches between two global exchanges at first.
    skip_reduction_factor : int
        What skips are divided by on a plateau; once there is nothing left to divide, they start again.
    wait_factor : int
        A message may take this fraction of the batches between two exchanges, at least one.
    stability_level : float
        Relative improvement of the loss below which an epoch counts as a plateau.
    """

    def __init__(
        self,
        total_epochs: int,
        warmup_epochs: int,
        cooldown_epochs: int,
        max_global_skips: int,
        skip_reduction_factor: int,
        wait_factor: int,
        stability_level: float,
    ) -> None:
        if min(total_epochs, warmup_epochs, cooldown_epochs) < 0:
            raise ValueError(
                "DASO: total_epochs, warmup_epochs and cooldown_epochs must not be negative, got "
                f"{total_epochs!r}, {warmup_epochs!r}, {cooldown_epochs!r}"
            )
        if warmup_epochs + cooldown_epochs > total_epochs:
            raise ValueError(
                f"DASO: total_epochs must be at least warmup_epochs + cooldown_epochs = "
                f"{warmup_epochs + cooldown_epochs}, got {total_epochs!r}"
            )
        for name, value, least in (
            ("max_global_skips", max_global_skips, 1),
            ("skip_reduction_factor", skip_reduction_factor, 2),
            ("wait_factor", wait_factor, 1),
        ):
            if value < least:
                raise ValueError(f"DASO: {name} must be at least {least}, got {value!r}")
        self.total, self.warmup, self.cooldown = total_epochs, warmup_epochs, cooldown_epochs
        self.largest, self.reduction, self.wait_factor = max_global_skips, skip_reduction_factor, wait_factor
        self.detector = DetectMetricPlateau(patience=2, threshold=stability_level)
        self.epoch, self.global_skip = 0, max_global_skips

    @property
    def wait(self) -> int:
        """Batches between the start of a message and its use."""
        return max(1, self.global_skip // self.wait_factor)

    @property
    def phase(self) -> str:
        """One of "warm-up", "cycling" and "cool-down"."""
        if self.epoch < self.warmup:
            return "warm-up"
        return "cycling" if self.epoch < self.total - self.cooldown else "cool-down"

    @property
    def is_blocking(self) -> bool:
        """Whether all ranks synchronise after every batch."""
        return self.phase != "cycling"

    def end_epoch(self, loss: float) -> None:
        """Take the mean loss of an epoch over all ranks."""
        if self.phase == "cycling" and self.detector.test_if_improving(loss):
            is_least = self.global_skip == 1
            self.global_skip = self.largest if is_least else max(1, self.global_skip // self.reduction)
        self.epoch += 1

    def get_state(self) -> dict:
        """Return what `set_state` needs to go on from here."""
        return {
            "epoch": self.epoch,
            "global_skip": self.global_skip,
            "detector": self.detector.get_state(),
        }

    def set_state(self, state: dict) -> None:
        """Go on from where `get_state` was called."""
        self.epoch, self.global_skip = state["epoch"], state["global_skip"]
        self.detector.set_state(state["detector"])
