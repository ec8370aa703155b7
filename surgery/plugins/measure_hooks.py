"""Hooks that offer what measures activations: numbers of their channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.plugins.hook_markers import hookspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import Measure


@hookspec
def surgery_measures() -> Mapping[str, Measure]:  # type: ignore[empty-body]
    """Offer measures: functions that compute a number for each channel of an activation.

    **Called:** at most once, when a measure is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to measures. A measure takes maps `(B, C, H, W)` float32 or float64 of any range,
    with NaN and infinities as the model computed them, and returns `(B, C)` float64, or `(B, 1)` for one number of all
    channels. Numbers of an image depend only on this image; NaN stands for no number. It must not write to its input.
    Its attributes `unit` and `reading` say in words what the numbers are, and how to read them. A measure that needs to
    know the operation has a method `of_operation`, which is described in `surgery.stages.Measure`.

    **Several:** all names can be used. A run computes each measure that is requested.

    **Example**, for `surgery extract --plugin loudness.py --measure loudness`:

    ```python
    import surgery

    def loudness(maps):
        return maps.double().abs().mean((2, 3))

    loudness.unit, loudness.reading = "values", "the mean absolute value: 0 says nothing at all"

    @surgery.hookimpl
    def surgery_measures():
        return {"loudness": loudness}
    ```
    """
