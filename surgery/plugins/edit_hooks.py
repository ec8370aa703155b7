"""Hooks that offer what changes the values of a running model: edits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.plugins.hook_markers import hookspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import Edit


@hookspec
def surgery_edits() -> Mapping[str, Edit]:  # type: ignore[empty-body]
    """Offer edits: functions that compute what takes the place of an operation's value while the model runs.

    **Called:** at most once, when an edit is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to edits. An edit takes maps `(B, C, H, W)` of the dtype and on the device of the
    model, of any range, with NaN and infinities as the model computed them. It returns the replacement, of the same
    shape, dtype and device, and the same for the same maps. It must not write to its input. The optional attributes
    that confine an edit to channels or a region are described in `surgery.stages.Edit`.

    **Several:** all names can be used. A run applies the requested edits in the given order.

    **Example**, for `surgery extract --plugin mirror.py --edit 'up3.cat = mirror'`:

    ```python
    import surgery

    @surgery.hookimpl
    def surgery_edits():
        return {"mirror": lambda values: values.flip(3)}
    ```
    """
