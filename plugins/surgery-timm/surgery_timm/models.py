"""From a name to one of timm's models, which carries its own preprocessing."""

from __future__ import annotations

import socket
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from surgery.errors import ModelError, did_you_mean, first_line
from surgery.stages import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

RANDOM = ":pretrained=false"
SECONDS = 3.0
"""For the hub to answer, before its own retries, which take most of a minute, are spared."""


def names() -> Sequence[str]:
    """All that timm has, behind one that says how to do without a download."""
    import timm

    return [f"resnet18{RANDOM}", *timm.list_models()]


def build(name: str) -> nn.Module:
    """``resnet18``, ``resnet18.a1_in1k``, or with arguments of ``timm.create_model`` behind a colon.

    ``resnet18:pretrained=false,num_classes=10``: without ``pretrained=false`` the weights are timm's, from the hub or
    from its cache on this disk. The model has timm's preprocessing in its attribute `preprocessing`. Raises ModelError
    for a name that timm has not, and where the weights can't be had.
    """
    import timm

    known, options = parsed(name)
    if ":" not in known:
        _check_known(known)
    options = {"pretrained": True, **options}
    try:
        with quick() if options["pretrained"] else nullcontext():
            model: Any = timm.create_model(known, **options)
    except (OSError, RuntimeError) as error:
        if not options["pretrained"]:
            raise
        missing = "the hub can't be reached, and they are not in its cache on this disk"
        reason = missing if isinstance(error, FileNotFoundError) else first_line(error)
        instead = f"; timm/{known}{RANDOM} has random ones" if ":" not in known else ""
        raise ModelError(f"the weights of timm/{known} can't be had: {reason}{instead}") from error
    if (own := preprocessing(model, options)) is not None:
        model.preprocessing = own
    if options["pretrained"]:
        model.weights_from = f"timm, {published(model, known)}"
    built: nn.Module = model
    return built


def trained(name: str) -> str:
    """How a model is had with trained weights, for one that was asked for without."""
    known, options = parsed(name)
    if options.get("pretrained", True):
        return ""
    return f"timm/{known} without pretrained=false has trained ones"


def published(model: nn.Module, name: str) -> str:
    """The full name of a model's trained weights, such as ``resnet18.a1_in1k``."""
    known: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    architecture, tag = known.get("architecture"), known.get("tag")
    return f"{architecture}.{tag}" if architecture and tag else name


def _check_known(name: str) -> None:
    import timm

    bare, dot, _ = name.partition(".")
    if not timm.is_model(bare):
        raise ModelError(f"timm has no model {bare!r}{did_you_mean(bare, timm.list_models())}")
    if dot and name not in (tagged := timm.list_models(f"{bare}.*", pretrained=True)):
        raise ModelError(f"timm has no weights {name!r}; there are {', '.join(tagged) or 'none'}")


def parsed(name: str) -> tuple[str, dict[str, Any]]:
    """The name, and what stands behind its last colon if that is options."""
    known, colon, text = name.rpartition(":")
    if not colon or "=" not in text:
        return name, {}
    options: dict[str, Any] = {}
    for option in text.split(","):
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals or not key.isidentifier():
            raise ModelError(f"options of timm/{known} are written name=value, not {option!r}")
        options[key] = converted(value)
    return known, options


def converted(text: str) -> bool | int | float | str | None:
    """True and false, none, numbers; anything else is text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def preprocessing(model: nn.Module, options: dict[str, Any]) -> Preprocessing | None:
    """What timm gives the model when it validates it; None for a number of channels that no image has."""
    from timm.data.config import resolve_model_data_config

    wanted = {name: options[name] for name in ("img_size", "in_chans") if name in options}
    config = resolve_model_data_config(model, wanted)
    _, height, width = config["input_size"]
    channels = options.get("in_chans", config["input_size"][0])
    if channels not in (1, 3):
        return None
    mean, std = (tuple(config[name]) for name in ("mean", "std"))
    if channels == 1:  # as timm itself folds the weights of three channels into one
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return Preprocessing(
        size=(height, width), mean=mean, std=std, crop=config["crop_pct"], interpolation=config["interpolation"]
    )


@contextmanager
def quick() -> Iterator[None]:
    """Where the hub can't be reached, its cache is used as if offline, for as long as the block lasts."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if not before and not reachable(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def reachable(address: str) -> bool:
    """Whether somebody answers there, or a proxy stands between."""
    if getproxies():
        return True
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), SECONDS):
            return True
    except OSError:
        return False
