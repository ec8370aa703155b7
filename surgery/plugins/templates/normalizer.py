from dataclasses import dataclass

import surgery


@dataclass(frozen=True)
class Ember:
    """Limits at some number of standard deviations below and above the mean of each channel."""

    deviations: float = 2.0

    def __call__(self, values):  # (B, C, H, W) float32 or float64, finite; don't write to it
        values = values.double()
        mean = values.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        reach = self.deviations * values.std((2, 3), keepdim=True, correction=0)
        return mean - reach, mean + reach  # low <= high, each broadcastable to (B, C, 1, 1)


@surgery.hookimpl
def surgery_normalizers():
    return {"ember": Ember()}
