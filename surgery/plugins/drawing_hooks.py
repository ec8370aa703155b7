"""Hooks that offer the stages of a picture: transforms, normalizers, tilers and colormaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.plugins.hook_markers import hookspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import Colormap, Normalizer, Tiler, Transform


@hookspec
def surgery_transforms() -> Mapping[str, Transform]:  # type: ignore[empty-body]
    """Offer transforms: functions that compute other maps from those of an activation.

    **Called:** at most once, when a transform is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to transforms. A transform takes maps `(B, C, H, W)`, float32 or float64 of any
    range, with NaN and infinities as the model computed them. It returns maps `(B, C', H', W')` of a float dtype, where
    image b of the result depends only on image b of the input. It must not write to its input, which is memory of the
    running model. A transform with an attribute `color` that is true returns three maps (C' = 3), the red, green and
    blue of one picture.

    **Several:** all names can be used. A run applies the requested transforms in the given order.

    **Example**, for `surgery extract --plugin root.py --transform root`:

    ```python
    import surgery

    @surgery.hookimpl
    def surgery_transforms():
        return {"root": lambda maps: maps.abs().sqrt()}
    ```
    """


@hookspec
def surgery_normalizers() -> Mapping[str, Normalizer]:  # type: ignore[empty-body]
    """Offer normalizers: functions that choose the limits, the two values at the ends of the color scale.

    **Called:** at most once, when a normalizer is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to normalizers. A normalizer takes values `(B, C, H, W)`, float32 or float64 of
    any range, all of them finite: NaN and infinities have been replaced. It returns two tensors, `low` and `high`, both
    finite and broadcastable to `(B, C, 1, 1)`, with `low <= high`. It must not write to its input. The optional
    attributes that save passes over the values are described in `surgery.stages.Normalizer`.

    **Several:** all names can be used. A run uses one normalizer.

    **Example**, for `surgery extract --plugin unit.py --normalizer unit`:

    ```python
    import surgery

    @surgery.hookimpl
    def surgery_normalizers():
        return {"unit": lambda values: (values.new_zeros(()), values.new_ones(()))}
    ```
    """


@hookspec
def surgery_tilers() -> Mapping[str, Tiler]:  # type: ignore[empty-body]
    """Offer tilers: functions that place the maps of an activation in pictures.

    **Called:** at most once, when a tiler is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to tilers. A tiler takes codes `(B, C, H, W)` uint8 and returns codes
    `(B, N, H', W')` uint8, that is, N pictures of each image. Codes 0 to 250 are values from low to high, codes 252 to
    254 mark NaN and infinities, and code 255 marks pixels outside of any map. A tiler must not write to its input. A
    tiler that places equal tiles in rows can also describe its layout, which makes drawing faster: see
    `surgery.stages.Tiler`.

    **Several:** all names can be used. A run uses one tiler.

    **Example**, for `surgery extract --plugin first.py --tiler first`:

    ```python
    import surgery

    @surgery.hookimpl
    def surgery_tilers():
        return {"first": lambda codes: codes[:, :1]}
    ```
    """


@hookspec
def surgery_colormaps() -> Mapping[str, Colormap]:  # type: ignore[empty-body]
    """Offer colormaps: the colors of the values between the limits.

    **Called:** at most once, when a colormap is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to colormaps. A colormap is a list of colors or anything else that `cmap.Colormap`
    takes, or a function. A function takes `(N,)` float64 in [0, 1] and returns colors `(N, 3)` or `(N, 4)` in [0, 1].

    **Several:** all names can be used. If the library `cmap` has a colormap of the same name, the plugin's is used.

    **Example**, for `surgery extract --plugin ember.py --colormap ember`:

    ```python
    import surgery

    @surgery.hookimpl
    def surgery_colormaps():
        return {"ember": ["black", "darkred", "orange", "white"]}
    ```
    """
