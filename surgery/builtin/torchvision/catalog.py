"""torchvision's models by name, and in weights files under its own keys.

Nothing is downloaded: trained weights are taken from torch's cache, or from a file that is named.
"""

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
    FIRST_KEY_PARTS,
    candidate_models,
    describe_mismatch,
    infer_options,
    update_key_names,
)
from surgery.errors import CheckpointError, ModelError, did_you_mean, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

WEIGHTS_OPTION = "weights"


def list_models() -> Sequence[str]:
    """All models that torchvision has."""
    from torchvision import models

    known: Sequence[str] = models.list_models()
    return known


def build(text: str) -> nn.Module:
    """A model with random weights, or with those behind the name: ``resnet50:weights=IMAGENET1K_V1``.

    Weights are ``DEFAULT`` or another name of torchvision's, which have to be in torch's cache, or the path of a file.
    Raises ModelError with what there is, and CheckpointError for a file that does not fit.
    """
    from surgery.models import read_state

    name, _, option = text.partition(":")
    if name not in list_models():
        raise ModelError(f"torchvision has no model {name!r}{did_you_mean(name, list_models())}")
    key, equals, wanted = option.partition("=")
    if option and (key.strip() != WEIGHTS_OPTION or not equals or not wanted.strip()):
        raise ModelError(
            f"torchvision/{name} takes one option, {WEIGHTS_OPTION}=NAME or {WEIGHTS_OPTION}=FILE, not {option!r}"
        )
    wanted = wanted.strip()
    if wanted.lower() in ("", "none"):
        return with_preprocessing(construct_model(name), published_weights(name).get("DEFAULT"))
    found = published_weights(name).get(wanted.upper())
    if found is None:
        return _from_file(name, wanted)
    file = cache_path(found)
    if not file.is_file():
        raise ModelError(
            f"the weights {found.name} of torchvision/{name} are not on this disk, and nothing is downloaded; put "
            f"{found.url} into {file.parent}"
        )
    return _build_with_weights(name, file, update_key_names(read_state(file)), found)


def suggest_trained_weights(text: str) -> str:
    """How the model of a name is had with trained weights."""
    name = text.partition(":")[0]
    found = published_weights(name).get("DEFAULT")
    if found is None or name.startswith("quantized"):
        return ""
    cached = next(
        (member for member in (found, *published_weights(name).values()) if cache_path(member).is_file()), None
    )
    if cached is not None:
        return f"torchvision/{name}:{WEIGHTS_OPTION}={cached.name} has trained ones, which are on this disk"
    file = cache_path(found)
    return f"torchvision/{name}:{WEIGHTS_OPTION}=DEFAULT has trained ones, once {found.url} is in {file.parent}"


def recognize(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
    """The model of torchvision whose state_dict this is, by keys and shapes; None where it is of none.

    The last layer may have another number of classes. Where several models fit, that whose published file has the name
    of `path` is taken, else the first.
    """
    if len(state) < 2 or not FIRST_KEY_PARTS & {key.partition(".")[0] for key in state}:
        return None
    state = update_key_names(state)
    name = next((name for name in candidate_models(path, state) if infer_options(name, state) is not None), None)
    return None if name is None else _build_with_weights(name, path, state)


def _from_file(name: str, wanted: str) -> nn.Module:
    from surgery.models import WEIGHTS_SUFFIXES, read_state

    file = Path(wanted).expanduser()
    if not file.is_file() and file.suffix.lower() not in WEIGHTS_SUFFIXES:
        near = did_you_mean(wanted, published_weights(name))
        known = ", ".join(published_weights(name)) or "none"
        raise ModelError(f"torchvision/{name} has no weights {wanted!r}; there are {known}, or name a file{near}")
    return _build_with_weights(name, file, update_key_names(read_state(file)))


def _build_with_weights(name: str, file: Path, state: Mapping[str, Tensor], chosen: Any = None) -> nn.Module:
    """The model with the weights of a file, built as torchvision builds it for its own weights where they fit.

    `chosen` are the published weights that the file has; None where that is not known.
    """
    if (options := infer_options(name, state)) is None:
        raise CheckpointError(f"{file} does not fit torchvision/{name}: {describe_mismatch(name, state)}")
    model, member = None, chosen
    if "num_classes" not in options and not name.startswith("quantized"):
        named = [each for each in published_weights(name).values() if cache_path(each).name == file.name]
        for member in [chosen] if chosen else dict.fromkeys([*named, *published_weights(name).values()]):
            with suppress(RuntimeError, ValueError):  # these were for another size of images, say
                model = construct_model(name, LocalWeights(member, state))
                break
    if model is None:
        member = published_weights(name).get("DEFAULT")
        try:
            model = construct_model(name, **options)
            model.load_state_dict(with_state_dict_version(state))
        except (RuntimeError, ValueError, MemoryError) as error:
            raise CheckpointError(f"{file} does not fit torchvision/{name}: {first_line(error)}") from error
    said = f"{chosen.name} of torchvision" if chosen else f"as torchvision/{name}"
    model.weights_from = f"{file.name}, {said}"  # type: ignore[assignment]
    return with_preprocessing(model, member)
