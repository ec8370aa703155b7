"""The networks in the content of a weights file: state_dicts, at any place where trainers save them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

from surgery.errors import CheckpointError, did_you_mean
from surgery.models.checkpoints.pickle_placeholders import Placeholder
from surgery.models.pix2pix.patchgan import PatchGAN, PixelGAN
from surgery.models.pix2pix.state_dicts import read_architecture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

Location: TypeAlias = "tuple[str, ...]"
"""Where a network is in a file: keys of dicts, numbers in lists, prefixes of names. Empty for the whole content."""

_MAX_DEPTH = 8
"""Levels of dicts and lists that are searched."""
_MAX_CONTAINERS = 100_000
"""Dicts and lists that are searched."""
_MAX_PREFIXES = 3
"""Prefixes of one state_dict's names that may each name a network."""

_WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"))
"""Parts of names that torch.compile, FSDP, activation checkpointing and Lightning's Fabric insert at any level."""

_GENERIC = frozenset(
    ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module", "unet", "student")
)
"""Names that do not tell one network from another."""

_GENERATOR = frozenset(("g", "gen", "generator", "netg"))
_DISCRIMINATOR = frozenset(("d", "dis", "disc", "discriminator", "netd", "critic"))
_AVERAGED = frozenset(("ema", "avg", "average", "averaged", "swa"))
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|rng|callback|loops|hyper|config|args|^opt$|^opts?_", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A state_dict in a file."""

    location: Location
    state: Mapping[str, Tensor]
    """The state_dict, without the prefixes of wrappers."""
    averaged: bool = False
    """Whether its weights are averages over the training."""

    @property
    def name(self) -> str:
        """The name that users write: the location without leading generic names such as ``state_dict``."""
        location = self.location
        while len(location) > 1 and location[0] in _GENERIC:
            location = location[1:]
        return ".".join(location)

    @property
    def full_name(self) -> str:
        """The whole location."""
        return ".".join(self.location)

    def is_inside(self, other: StoredNetwork) -> bool:
        """Return whether this is `other` or a part of it."""
        return self.location[: len(other.location)] == other.location


def find_networks(path: Path, content: Any, part: str | None = None) -> list[StoredNetwork]:
    """Return the networks in the content of a file, the preferred one first; with `part`, that one and its parts.

    Generators come before networks without such a name, and discriminators last. Among these, averaged weights (EMA,
    SWA) come before those of the last step, as in code that draws images. Otherwise the order of the file is kept.

    The list is never empty: raises CheckpointError if there is no network, or none named `part`.
    """
    networks = [
        network for location, state in _find_state_dicts(content) for network in _split_networks(location, state)
    ]
    if not networks and part is None:
        raise CheckpointError(f"{path} {_describe_content(content)}")
    networks.sort(key=_preference_key)
    return networks if part is None else _find_named(path, networks, part)


def other_networks(chosen: StoredNetwork, networks: Sequence[StoredNetwork]) -> list[str]:
    """Return the names of the networks beside `chosen`, without those that contain it and without its parts."""
    kept: list[StoredNetwork] = []
    for network in sorted(networks, key=lambda network: len(network.location)):
        if not any(network.is_inside(other) or other.is_inside(network) for other in (chosen, *kept)):
            kept.append(network)
    return [network.name for network in kept]


def _find_named(path: Path, networks: Sequence[StoredNetwork], part: str) -> list[StoredNetwork]:
    criteria: tuple[Callable[[StoredNetwork], bool], ...] = (
        lambda network: part in (network.name, network.full_name),
        lambda network: part in network.location,
        lambda network: part.lower() == network.name.lower(),
    )
    for matches in criteria:
        if chosen := next(filter(matches, networks), None):
            return [chosen, *(each for each in networks if each is not chosen and each.is_inside(chosen))]
    names = list(dict.fromkeys(network.name for network in networks if network.location))
    near = did_you_mean(part, names)
    raise CheckpointError(f"{path} has no network {part!r}; there is {', '.join(names[:12]) or 'no networks'}{near}")


def _find_state_dicts(content: Any) -> Iterator[tuple[Location, dict[str, Tensor]]]:
    """Yield the dicts that have weights directly in them, from the outermost inward."""
    tensors = []
    for location, mapping in _walk_mappings(content):
        state = {str(name): value for name, value in mapping.items() if isinstance(value, Tensor)}
        if state:
            tensors.append((location, state))
    with_weights = [(location, state) for location, state in tensors if _has_weights(state)]
    # The parameters of a network may all be vectors, but vectors are far more often numbers beside a network.
    yield from with_weights or [(location, state) for location, state in tensors if any(v.ndim for v in state.values())]


def _has_weights(state: Mapping[str, Tensor]) -> bool:
    return any(value.ndim > 1 for value in state.values())


def _walk_mappings(content: Any) -> Iterator[tuple[Location, Mapping[Any, Any]]]:
    """Yield each dict in nested dicts and lists once, except the states of optimizers and settings."""
    queue: deque[tuple[Location, Any]] = deque([((), content)])
    seen: set[int] = set()
    while queue and len(seen) < _MAX_CONTAINERS:
        location, value = queue.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        children: Iterator[tuple[Any, Any]]
        if isinstance(value, Mapping):
            if "param_groups" in value:  # the state of an optimizer, whose tensors have the shapes of weights
                continue
            yield location, value
            children = iter(value.items())
        else:
            children = enumerate(value) if isinstance(value, (list, tuple)) else iter(())
        if len(location) == _MAX_DEPTH:
            continue
        for key, child in children:
            if isinstance(child, (Mapping, list, tuple)) and not _NOT_WEIGHTS.search(str(key)):
                queue.append(((*location, str(key)), child))


def _split_networks(location: Location, state: dict[str, Tensor], depth: int = 0) -> Iterator[StoredNetwork]:
    """Yield a state_dict, and those in it whose names begin with the name of a network: ``netG.model.0.weight``."""
    state, averaged = _strip_wrappers(state)
    averaged = averaged or any(_AVERAGED & _words(name) for name in location)
    yield StoredNetwork(location, state, averaged)
    if depth == _MAX_PREFIXES:
        return
    by_prefix: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        prefix, dot, rest = name.partition(".")
        if dot:
            by_prefix.setdefault(prefix, {})[rest] = value
    by_prefix = {prefix: inner for prefix, inner in by_prefix.items() if _has_weights(inner)}
    has_network_name = any(_words(prefix) & (_GENERATOR | _DISCRIMINATOR | _AVERAGED) for prefix in by_prefix)
    if len(by_prefix) == 1 or has_network_name or any(prefix in _GENERIC for prefix in by_prefix):
        for prefix, inner in by_prefix.items():
            yield from _split_networks((*location, prefix), inner, depth + 1)


def _strip_wrappers(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Return the state_dict without wrapper prefixes and without lone numbers, and whether it is an average."""
    averaged = "n_averaged" in state
    if any("." in name for name in state):  # else it is a single layer, whose counter is its own
        state = {name: value for name, value in state.items() if value.ndim or "." in name}
    state = {".".join(word for word in name.split(".") if word not in _WRAPPERS): v for name, v in state.items()}
    while state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state, averaged


def _words(name: str) -> set[str]:
    """``netG_state_dict`` -> net, g, state, dict; ``genA2B`` -> gen, a, 2, b; ``conv2d`` -> conv, 2d."""
    return {word.lower() for word in re.findall(r"\d+[a-z]*|[A-Z]?[a-z]+|[A-Z]+", name)}


def _preference_key(network: StoredNetwork) -> tuple[int, bool]:
    """Return a sort key: lower keys are preferred."""
    words = set().union(*map(_words, network.location)) if network.location else set()
    if words & _GENERATOR:
        role = 0
    elif words & _DISCRIMINATOR or _has_discriminator_keys(network.state):
        role = 2
    else:
        role = 1
    return role, not network.averaged


def _has_discriminator_keys(state: Mapping[str, Tensor]) -> bool:
    architecture = read_architecture(state)
    return architecture is not None and architecture[0] in (PatchGAN, PixelGAN)


def _describe_content(content: Any) -> str:
    """Return what a file without a network holds."""
    if isinstance(content, Placeholder):
        return "holds a pickled object, not a state_dict"
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, not a state_dict"
    names = ", ".join(str(name)[:40] for name in list(content)[:6]) or "nothing"
    return f"holds no weights under a name that is known; it holds {names}"
