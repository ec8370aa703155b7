"""torchvision's models by name, and from weights files under its own keys."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.builtin.torchvision.builders import (
    LocalWeights,
    cache_path,
    construct_model,
    published_weights,
    with_preprocessing,
    with_state_dict_version,
)
from surgery.builtin.torchvision.recognition import (
    candidate_models,
    describe_mismatch,
    infer_options,
    may_be_torchvision,
    update_key_names,
)
from surgery.errors import CheckpointError, ModelError, did_you_mean, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn


def list_models() -> Sequence[str]:
    """Return the names of all of torchvision's models."""
    from torchvision import models

    known: Sequence[str] = models.list_models()
    return known


def build(text: str) -> nn.Module:
    """Return a model with random weights, or with those in the text: ``resnet50:weights=IMAGENET1K_V1``.

    Weights are ``DEFAULT`` or another of torchvision's names, which must be in torch's cache, or the path of a file.
    Raises ModelError for unknown names and options, and CheckpointError for a file that does not fit.
    """
    from surgery.models import read_state

    name, _, option = text.partition(":")
    if name not in list_models():
        raise ModelError(f"torchvision has no model {name!r}{did_you_mean(name, list_models())}")
    key, equals, weights = option.partition("=")
    if option and (key.strip() != "weights" or not equals or not weights.strip()):
        raise ModelError(f"torchvision/{name} takes one option, weights=NAME or weights=FILE, not {option!r}")
    weights = weights.strip()
    if weights.lower() in ("", "none"):
        return with_preprocessing(construct_model(name), published_weights(name).get("DEFAULT"))
    published = published_weights(name).get(weights.upper())
    if published is None:
        return _build_from_file(name, weights)
    file = cache_path(published)
    if not file.is_file():
        raise ModelError(
            f"the weights {published.name} of torchvision/{name} are not on this disk, and nothing is downloaded; put "
            f"{published.url} into {file.parent}"
        )
    return _build_with_weights(name, file, update_key_names(read_state(file)), published)


def suggest_trained_weights(text: str) -> str:
    """Return how to get the model of a name with trained weights; empty if torchvision publishes none."""
    name = text.partition(":")[0]
    published = published_weights(name)
    default = published.get("DEFAULT")
    if default is None or name.startswith("quantized"):
        return ""
    cached = next((member for member in (default, *published.values()) if cache_path(member).is_file()), None)
    if cached is not None:
        return f"torchvision/{name}:weights={cached.name} has trained ones, which are on this disk"
    file = cache_path(default)
    return f"torchvision/{name}:weights=DEFAULT has trained ones, once {default.url} is in {file.parent}"


def recognize(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
    """Return the torchvision model whose state_dict this is, by keys and shapes; None if it belongs to none.

    The last layer may have another number of classes. If several models fit, the one whose published file has the name
    of `path` is preferred, else the first.
    """
    if not may_be_torchvision(state):
        return None
    state = update_key_names(state)
    name = next((name for name in candidate_models(path, state) if infer_options(name, state) is not None), None)
    return None if name is None else _build_with_weights(name, path, state)


def _build_from_file(name: str, weights: str) -> nn.Module:
    from surgery.models import WEIGHTS_SUFFIXES, read_state

    file = Path(weights).expanduser()
    if not file.is_file() and file.suffix.lower() not in WEIGHTS_SUFFIXES:
        near = did_you_mean(weights, published_weights(name))
        known = ", ".join(published_weights(name)) or "none"
        raise ModelError(f"torchvision/{name} has no weights {weights!r}; there are {known}, or name a file{near}")
    return _build_with_weights(name, file, update_key_names(read_state(file)))


def _build_with_weights(name: str, file: Path, state: Mapping[str, Tensor], published: Any = None) -> nn.Module:
    """Return a model with the weights of a file, built as torchvision builds it for its own weights if that fits.

    `published` are the published weights that the file contains; None if that is not known.
    """
    options = infer_options(name, state)
    if options is None:
        raise CheckpointError(f"{file} does not fit torchvision/{name}: {describe_mismatch(name, state)}")
    model, member = None, published
    if "num_classes" not in options and not name.startswith("quantized"):
        model, member = _build_like_published(name, file, state, published)
    if model is None:
        member = published_weights(name).get("DEFAULT")
        try:
            model = construct_model(name, **options)
            model.load_state_dict(with_state_dict_version(state))
        except (RuntimeError, ValueError, MemoryError) as error:
            raise CheckpointError(f"{file} does not fit torchvision/{name}: {first_line(error)}") from error
    origin = f"{published.name} of torchvision" if published else f"as torchvision/{name}"
    model.weights_from = f"{file.name}, {origin}"  # type: ignore[assignment]
    return with_preprocessing(model, member)


def _build_like_published(
    name: str, file: Path, state: Mapping[str, Tensor], published: Any
) -> tuple[nn.Module | None, Any]:
    """Return a model as built for the first published weights whose options fit, and these weights; None if none fit.

    Published weights whose file has the name of `file` come first.
    """
    members = list(published_weights(name).values())
    same_name = [member for member in members if cache_path(member).name == file.name]
    for member in [published] if published else dict.fromkeys([*same_name, *members]):
        with suppress(RuntimeError, ValueError):  # such as weights for another image size
            return construct_model(name, LocalWeights(member, state)), member
    return None, None
