"""Inputs to trace a model with: a file that the user gives, or numbers of a shape that the model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surgery.cli.standard_streams import print_message

if TYPE_CHECKING:
    from torch import Tensor, nn

    from surgery.cli.input_options import InputOptions
    from surgery.cli.options import ModelOptions
    from surgery.inputs import Size
    from surgery.plugins import Plugins

DEFAULT_SIDE = 224
"""Height and width in pixels of an example, for a model that doesn't say which size it takes."""


def make_example(
    model: nn.Module, image: str | None, reading: InputOptions, plugins: Plugins, seed: int | None = None
) -> Any:
    """Return inputs of a model: those of a run on the file `image` and on other inputs.

    Without these, they are the example that the model declares, or else numbers in the shape of an image.
    """
    if image is not None or reading.other_inputs:
        return _read_example(model, image, reading, plugins)
    declared = _declared_example(model)
    return _example_of_numbers(model, reading.arguments(plugins)["size"], seed) if declared is None else declared


def check_example_size(model: nn.Module, example: Any) -> None:
    """Raise ImageError if the example is an image of a size that the model is known not to take."""
    from surgery.errors import ImageError
    from surgery.inputs import explain_size_mismatch

    if problem := explain_size_mismatch(model, example):
        raise ImageError(problem)


def trace_if_possible(model: nn.Module, example: Any, loading: ModelOptions) -> nn.Module:
    """Return a traced model, with shapes where the example runs; otherwise print why there are none.

    Raises TraceError if it can't be traced, or is a model that can only be observed and does not take the example.
    """
    from surgery.errors import TraceError
    from surgery.tracing import trace

    try:
        return trace(model, example, **loading.trace_arguments())
    except TraceError as error:
        try:
            traced = trace(model, **loading.trace_arguments())
        except TraceError as other:
            if str(other) == str(error):  # the example isn't the cause
                raise
            raise TraceError(
                f"{error}; {type(model).__name__} is observed while it runs, so give an input that it takes: "
                "MODEL IMAGE, with --size, --reader, or --input NAME=FILE for a second one"
            ) from error
        print_message(f"{error}; shown without shapes")
        return traced


def _read_example(model: nn.Module, image: str | None, reading: InputOptions, plugins: Plugins) -> Any:
    """Return the inputs that a run on an image, or on the other inputs alone, gives to a model."""
    from surgery.errors import ImageError
    from surgery.inputs import as_example, read_example

    files = reading.find_files(model, () if image is None else image, plugins)
    example = read_example(model, files, "cpu")
    if example is None:
        stream = files.open()
        next(stream.read(), None)
        raise ImageError(stream.failures[0].reason)
    return as_example(model, example)


def _declared_example(model: Any) -> Any:
    """Return the example of a model's attribute `example_input_array`, as models of Lightning have it, if any.

    For language models of transformers, whose attribute `main_input_name` is ``input_ids``, it is their `dummy_inputs`.
    """
    from surgery.inputs import as_example

    is_language_model = getattr(model, "main_input_name", "") == "input_ids"
    declared = getattr(model, "dummy_inputs" if is_language_model else "example_input_array", None)
    return as_example(model, declared) if isinstance(declared, dict) else declared


def _example_of_numbers(model: Any, size: Size, seed: int | None) -> Tensor:
    """Return a batch of one input that a model takes: random numbers from `seed`, or zeros for None.

    The shape is ``(1, channels, height, width)`` and the dtype is the model's. Without a `size`, the model's own size
    is used, or `DEFAULT_SIDE`. Raises ImageError when there is not enough memory.
    """
    import torch

    from surgery.errors import ImageError, first_line
    from surgery.inputs import input_channels, input_dtype, model_size

    if size in (None, "native"):
        size = getattr(getattr(model, "preprocessing", None), "size", None) or model_size(model) or DEFAULT_SIDE
    height, width = size if isinstance(size, tuple) else (size, size)
    shape: Any = (1, input_channels(model), height, width)
    try:
        if seed is None:
            return torch.zeros(shape, dtype=input_dtype(model))
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(input_dtype(model))
    except (RuntimeError, MemoryError, OverflowError) as error:
        text = "x".join(map(str, shape))
        raise ImageError(f"an input of {text} can't be made: {first_line(error)}; choose another --size") from error
