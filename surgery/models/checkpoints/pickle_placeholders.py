"""Placeholders for the harmless objects that trainers save beside the weights.

A pickle contains the global names of classes and functions, and the arguments to call them with. For the names in this
module, the reader calls a placeholder that ignores its arguments. So the weights beside such an object can be read, and
no library is imported and none of its code runs. A file with any other global name is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Placeholder:
    """Stands for an object whose content is ignored."""

    __slots__ = ()

    def __new__(cls, *_arguments: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *_arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _DictPlaceholder:
    """Constructs an ordinary dict in place of another kind of dict, since it may contain a state_dict."""

    def __new__(cls, *_arguments: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _ListPlaceholder:
    """Constructs an ordinary list in place of another kind of list."""

    def __new__(cls, *_arguments: Any) -> list[Any]:  # type: ignore[misc]
        return []


_OBJECT_NAMES = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "builtins": "bool bytes dict float frozenset int list object range slice str tuple",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "numpy": "bool_ dtype float16 float32 float64 int8 int16 int32 int64 ndarray str_ uint8 uint16 uint32 uint64",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "torch.torch_version": "TorchVersion",
    "torch.optim.adam": "Adam",
    "torch.optim.adamw": "AdamW",
    "torch.optim.rmsprop": "RMSprop",
    "torch.optim.sgd": "SGD",
    "typing": "Any",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.nodes": "AnyNode BooleanNode FloatNode IntegerNode StringNode",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "lightning.pytorch.callbacks.model_checkpoint": "ModelCheckpoint",
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
}
_DICT_NAMES = {
    "collections": "defaultdict",
    "addict.addict": "Dict",
    "easydict": "EasyDict",
    "munch": "Munch",
    "yacs.config": "CfgNode",
    "mmengine.config.config": "ConfigDict",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
    "lightning.pytorch.utilities.parsing": "AttributeDict",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
}
_LIST_NAMES = {"collections": "deque"}

PLACEHOLDERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (placeholder, f"{module}.{name}")
    for placeholder, modules in (
        (Placeholder, _OBJECT_NAMES),
        (_DictPlaceholder, _DICT_NAMES),
        (_ListPlaceholder, _LIST_NAMES),
    )
    for module, names in modules.items()
    for name in names.split()
]
"""For `torch.serialization.safe_globals`: each placeholder, and the global name in the file that it replaces."""
