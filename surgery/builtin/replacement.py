"""The edit that puts given values in place of those that the model computes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.builtin.edit_places import PlacedEdit
from surgery.builtin.tensor_files import TENSOR_SUFFIXES, check_tensor, load_tensors, select_tensor
from surgery.errors import EditError, ImageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Replace(PlacedEdit):
    """Given values: those of a file or a tensor, or those of a reference run (activation patching).

    They have the shape of the maps, ``(C, H, W)`` or ``(B, C, H, W)``, or one that broadcasts to it: ``(H, W)``,
    ``(C, 1, 1)``, a single number. They are converted to the dtype and the device of the maps. Raises EditError for a
    file that can't be read, and for values of another shape, or of floats for maps of integers.
    """

    file: Path | None = None
    """A file .npy, .npz, .safetensors, .pt or .pth; no code in it runs. Without it, values come from a reference."""
    key: str | None = None
    """The name of the tensor in a file that holds several."""
    values: Tensor | None = field(default=None, repr=False)
    """In Python: a tensor, in place of a file."""
    _loaded: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        PlacedEdit.__post_init__(self)
        if self.file is not None and self.values is not None:
            raise EditError("an edit takes the values of a file or of a tensor, not both")
        if self.file is not None:
            object.__setattr__(self, "file", Path(self.file))
        object.__setattr__(self, "_loaded", self.values if self.file is None else _load(Path(self.file), self.key))

    @property
    def needs_reference(self) -> bool:
        """Whether there are no values yet: `of_reference` gives an edit that has them."""
        return self._loaded is None

    def of_reference(self, values: Tensor, /) -> Replace:
        """Return an edit with the values ``(N, C, H, W)`` of a reference run on one image, or on one for each image."""
        return self if not self.needs_reference else replace(self, values=values.detach().clone())

    def __call__(self, values: Tensor, /) -> Tensor:
        given = self._loaded
        if given is None:
            raise EditError("replace needs values: replace:file=x.npy, Replace(values=tensor), or a reference run")
        shape = values.shape
        sizes = zip(given.shape, shape[4 - given.ndim :], strict=True) if given.ndim <= 4 else ()
        if given.ndim not in (0, 2, 3, 4) or any(own not in (1, size) for own, size in sizes):
            raise EditError(f"values of shape {tuple(given.shape)} can't replace maps of shape {tuple(shape)}")
        if _rank(given) > _rank(values):
            raise EditError(f"values of {given.dtype} can't replace maps of {values.dtype}")
        return given.to(values.device, values.dtype).expand(shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Replace):
            return NotImplemented
        return self._options == other._options and _is_same(self._loaded, other._loaded)

    def __hash__(self) -> int:
        return hash(self._options)

    @property
    def _options(self) -> tuple[object, ...]:
        return type(self), self.file, self.key, *self.place.values()


def _rank(tensor: Tensor) -> int:
    """Return 0 for integers and booleans, 1 for real floats, 2 for complex numbers: each kind can hold those before."""
    return 2 if tensor.is_complex() else int(tensor.is_floating_point())


def _load(path: Path, key: str | None) -> Tensor:
    try:
        content = load_tensors(path, TENSOR_SUFFIXES)
        if isinstance(content, dict):
            content = select_tensor(path, content, key, "replace")
        return check_tensor(path, content)
    except ImageError as error:
        raise EditError(str(error)) from error


def _is_same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors have the same dtype and values, NaN included, or both are None."""
    from surgery.graph import bitwise_equal

    return one is other or (one is not None and other is not None and bitwise_equal(one, other))
