"""torchvision's models by name, and in weights files under its own keys.

Nothing is downloaded: trained weights are taken from torch's cache, or from a file that is named.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.builtin.torchvision.builders import (
    Cached,
    cached_file,
    constructed,
    published,
    versioned,
    with_preprocessing,
)
from surgery.builtin.torchvision.keys import HEADS, candidates, mismatch, options_for, renamed
from surgery.errors import CheckpointError, ModelError, did_you_mean, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

OPTION = "weights"


def names() -> Sequence[str]:
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
    if name not in names():
        raise ModelError(f"torchvision has no model {name!r}{did_you_mean(name, names())}")
    key, equals, wanted = option.partition("=")
    if option and (key.strip() != OPTION or not equals or not wanted.strip()):
        raise ModelError(f"torchvision/{name} takes one option, {OPTION}=NAME or {OPTION}=FILE, not {option!r}")
    wanted = wanted.strip()
    if wanted.lower() in ("", "none"):
        return with_preprocessing(constructed(name), published(name).get("DEFAULT"))
    found = published(name).get(wanted.upper())
    if found is None:
        return _from_file(name, wanted)
    file = cached_file(found)
    if not file.is_file():
        raise ModelError(
            f"the weights {found.name} of torchvision/{name} are not on this disk, and nothing is downloaded; put "
            f"{found.url} into {file.parent}"
        )
    return _loaded(name, file, renamed(read_state(file)), found)


def trained(text: str) -> str:
    """How the model of a name is had with trained weights."""
    name = text.partition(":")[0]
    found = published(name).get("DEFAULT")
    if found is None or name.startswith("quantized"):
        return ""
    cached = next((member for member in (found, *published(name).values()) if cached_file(member).is_file()), None)
    if cached is not None:
        return f"torchvision/{name}:{OPTION}={cached.name} has trained ones, which are on this disk"
    file = cached_file(found)
    return f"torchvision/{name}:{OPTION}=DEFAULT has trained ones, once {found.url} is in {file.parent}"


def recognize(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
    """The model of torchvision whose state_dict this is, by keys and shapes; None where it is of none.

    The last layer may have another number of classes. Where several models fit, that whose published file has the name
    of `path` is taken, else the first.
    """
    if len(state) < 2 or not HEADS & {key.partition(".")[0] for key in state}:
        return None
    state = renamed(state)
    name = next((name for name in candidates(path, state) if options_for(name, state) is not None), None)
    return None if name is None else _loaded(name, path, state)


def _from_file(name: str, wanted: str) -> nn.Module:
    from surgery.models import SUFFIXES, read_state

    file = Path(wanted).expanduser()
    if not file.is_file() and file.suffix.lower() not in SUFFIXES:
        near = did_you_mean(wanted, published(name))
        known = ", ".join(published(name)) or "none"
        raise ModelError(f"torchvision/{name} has no weights {wanted!r}; there are {known}, or name a file{near}")
    return _loaded(name, file, renamed(read_state(file)))


def _loaded(name: str, file: Path, state: Mapping[str, Tensor], chosen: Any = None) -> nn.Module:
    """The model with the weights of a file, built as torchvision builds it for its own weights where they fit.

    `chosen` are the published weights that the file has; None where that is not known.
    """
    if (options := options_for(name, state)) is None:
        raise CheckpointError(f"{file} does not fit torchvision/{name}: {mismatch(name, state)}")
    model, member = None, chosen
    if "num_classes" not in options and not name.startswith("quantized"):
        named = [each for each in published(name).values() if cached_file(each).name == file.name]
        for member in [chosen] if chosen else dict.fromkeys([*named, *published(name).values()]):
            with suppress(RuntimeError, ValueError):  # these were for another size of images, say
                model = constructed(name, Cached(member, state))
                break
    if model is None:
        member = published(name).get("DEFAULT")
        try:
            model = constructed(name, **options)
            model.load_state_dict(versioned(state))
        except (RuntimeError, ValueError, MemoryError) as error:
            raise CheckpointError(f"{file} does not fit torchvision/{name}: {first_line(error)}") from error
    said = f"{chosen.name} of torchvision" if chosen else f"as torchvision/{name}"
    model.weights_from = f"{file.name}, {said}"  # type: ignore[assignment]
    return with_preprocessing(model, member)
