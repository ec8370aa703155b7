"""Models of timm by name, each with its own preprocessing."""

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
TIMEOUT = 3.0
"""Seconds to wait for the hub. Without an answer the cache is used at once; the hub's own retries take a minute."""


def names() -> Sequence[str]:
    """Return the names of all models of timm. The first one shows how to avoid a download."""
    import timm

    return [f"resnet18{RANDOM}", *timm.list_models()]


def build(name: str) -> nn.Module:
    """Build a model: ``resnet18``, ``resnet18.a1_in1k``, ``resnet18:pretrained=false,num_classes=10``.

    After the colon are arguments of ``timm.create_model``. Without ``pretrained=false``, the weights are loaded from
    the hub or its cache on disk. The model has timm's preprocessing in its attribute ``preprocessing``. Raises
    ModelError for a name that timm does not have, and if the weights can't be loaded.
    """
    import timm

    base, options = parse(name)
    if ":" not in base:
        _check_name(base)
    options = {"pretrained": True, **options}
    try:
        with use_cache_if_unreachable() if options["pretrained"] else nullcontext():
            model: Any = timm.create_model(base, **options)
    except (OSError, RuntimeError) as error:
        if not options["pretrained"]:
            raise
        missing = "the hub can't be reached, and they are not in its cache on this disk"
        reason = missing if isinstance(error, FileNotFoundError) else first_line(error)
        instead = f"; timm/{base}{RANDOM} has random ones" if ":" not in base else ""
        raise ModelError(f"the weights of timm/{base} can't be loaded: {reason}{instead}") from error
    if (found := find_preprocessing(model, options)) is not None:
        model.preprocessing = found
    if options["pretrained"]:
        model.weights_from = f"timm, {weights_name(model, base)}"
    built: nn.Module = model
    return built


def trained(name: str) -> str:
    """Return how to get trained weights for a model that was requested without them."""
    base, options = parse(name)
    if options.get("pretrained", True):
        return ""
    return f"timm/{base} without pretrained=false has trained ones"


def weights_name(model: nn.Module, name: str) -> str:
    """Return the full name of a model's trained weights, such as ``resnet18.a1_in1k``."""
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    architecture, tag = config.get("architecture"), config.get("tag")
    return f"{architecture}.{tag}" if architecture and tag else name


def _check_name(name: str) -> None:
    import timm

    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(f"timm has no model {architecture!r}{did_you_mean(architecture, timm.list_models())}")
    if dot and name not in (tagged := timm.list_models(f"{architecture}.*", pretrained=True)):
        raise ModelError(f"timm has no weights {name!r}; there are {', '.join(tagged) or 'none'}")


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """Split a name into the name of the model and the options after its last colon, if these are options."""
    base, colon, text = name.rpartition(":")
    if not colon or "=" not in text:
        return name, {}
    options: dict[str, Any] = {}
    for option in text.split(","):
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals or not key.isidentifier():
            raise ModelError(f"options of timm/{base} are written name=value, not {option!r}")
        options[key] = convert(value)
    return base, options


def convert(text: str) -> bool | int | float | str | None:
    """Return true, false, none or a number for its text, and any other text unchanged."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def find_preprocessing(model: nn.Module, options: dict[str, Any]) -> Preprocessing | None:
    """Return the preprocessing with which timm validates a model, or None if it has neither 1 nor 3 channels."""
    from timm.data.config import resolve_model_data_config

    wanted = {name: options[name] for name in ("img_size", "in_chans") if name in options}
    config = resolve_model_data_config(model, wanted)
    _, height, width = config["input_size"]
    channels = options.get("in_chans", config["input_size"][0])
    if channels not in (1, 3):
        return None
    mean, std = (tuple(config[name]) for name in ("mean", "std"))
    if channels == 1:  # timm adds up the weights of the three channels
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return Preprocessing(
        size=(height, width), mean=mean, std=std, crop=config["crop_pct"], interpolation=config["interpolation"]
    )


@contextmanager
def use_cache_if_unreachable() -> Iterator[None]:
    """If the hub can't be reached, set it offline during the block, so that its cache is used at once."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if not before and not is_reachable(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_reachable(address: str) -> bool:
    """Return whether a server accepts a connection, or a proxy is configured."""
    if getproxies():
        return True
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), TIMEOUT):
            return True
    except OSError:
        return False
