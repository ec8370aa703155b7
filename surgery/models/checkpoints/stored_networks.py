"""The networks in the content of a weights file: state_dicts, wherever trainers put them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from surgery.errors import CheckpointError, did_you_mean
from surgery.models.pix2pix.patchgan import PatchGAN, PixelGAN
from surgery.models.pix2pix.state_dicts import read_architecture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_DEEPEST, _MOST = 8, 100_000
"""Levels of dicts and lists that are looked into, and how many dicts and lists."""

_WRAPPING = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"))
"""What torch.compile, FSDP, activation checkpointing and Lightning's Fabric put into names, at any level."""

_PLAIN = frozenset(
    ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module", "unet", "student")
)
"""Names that say nothing of which network it is."""

_GENERATOR = frozenset(("g", "gen", "generator", "netg"))
_DISCRIMINATOR = frozenset(("d", "dis", "disc", "discriminator", "netd", "critic"))
_AVERAGED = frozenset(("ema", "avg", "average", "averaged", "swa"))
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|rng|callback|loops|hyper|config|args|^opt$|^opts?_", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A state_dict in a file."""

    location: tuple[str, ...]
    """Where it is: keys of dicts, numbers in lists, prefixes of names; empty where it is all that there is."""
    state: Mapping[str, Tensor]
    """Without the prefixes of wrappers."""
    averaged: bool = False
    """Whether its weights are averages over the training."""

    @property
    def name(self) -> str:
        """What the user calls it: its place without leading words that say nothing, such as ``state_dict``."""
        location = self.location
        while len(location) > 1 and location[0] in _PLAIN:
            location = location[1:]
        return ".".join(location)

    @property
    def full_name(self) -> str:
        """Its whole place."""
        return ".".join(self.location)


def find_networks(path: Path, content: Any, part: str | None = None) -> list[StoredNetwork]:
    """The networks in what a file holds, the preferred first; with `part` that one, and those in it.

    Generators are preferred to what has no such name, and that to discriminators; averaged weights (EMA, SWA) to those
    of the last step, as code that draws images does; then the order of the file decides. Raises CheckpointError where
    there is none, or none that is called `part`.
    """
    found = [part for location, state in _find_state_dicts(content) for part in _split_networks(location, state)]
    if not found and part is None:
        raise CheckpointError(f"{path} {_describe_content(content)}")
    found.sort(key=_preference_key)
    return found if part is None else _find_named(path, found, part)


def other_networks(taken: StoredNetwork, networks: Sequence[StoredNetwork]) -> list[str]:
    """The names of the networks beside the one that was taken: not those that it is in, and not its parts."""
    kept: list[StoredNetwork] = []
    for network in sorted(networks, key=lambda network: len(network.location)):
        if not any(_one_in_other(network.location, other.location) for other in (taken, *kept)):
            kept.append(network)
    return [network.name for network in kept]


def _one_in_other(one: Sequence[str], other: Sequence[str]) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _find_named(path: Path, found: Sequence[StoredNetwork], part: str) -> list[StoredNetwork]:
    for fits in (
        lambda network: part in (network.name, network.full_name),
        lambda network: part in network.location,
        lambda network: part.lower() == network.name.lower(),
    ):
        if chosen := next(filter(fits, found), None):
            return [
                chosen,
                *(n for n in found if n is not chosen and n.location[: len(chosen.location)] == chosen.location),
            ]
    names = list(dict.fromkeys(network.name for network in found if network.location))
    near = did_you_mean(part, names)
    raise CheckpointError(f"{path} has no network {part!r}; there is {', '.join(names[:12]) or 'no networks'}{near}")


def _find_state_dicts(content: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """The dicts that have weights directly in them, from the outermost inward."""
    found = []
    for location, mapping in _walk_mappings(content):
        state = {str(name): value for name, value in mapping.items() if isinstance(value, Tensor)}
        if state:
            found.append((location, state))
    weighty = [(location, state) for location, state in found if _has_weights(state)]
    # A network whose parameters are all vectors is possible; numbers beside a network are far more common.
    yield from weighty or [(location, state) for location, state in found if any(v.ndim for v in state.values())]


def _has_weights(state: Mapping[str, Tensor]) -> bool:
    return any(value.ndim > 1 for value in state.values())


def _walk_mappings(content: Any) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """The dicts in nested dicts and lists, each once, but for those of optimizers and settings."""
    queue: deque[tuple[tuple[str, ...], Any]] = deque([((), content)])
    seen: set[int] = set()
    while queue and len(seen) < _MOST:
        location, value = queue.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        inside: Iterator[tuple[Any, Any]]
        if isinstance(value, Mapping):
            if "param_groups" in value:  # the state of an optimizer, whose tensors have the shapes of weights
                continue
            yield location, value
            inside = iter(value.items())
        else:
            inside = enumerate(value) if isinstance(value, (list, tuple)) else iter(())
        if len(location) == _DEEPEST:
            continue
        for key, child in inside:
            if isinstance(child, (Mapping, list, tuple)) and not _NOT_WEIGHTS.search(str(key)):
                queue.append(((*location, str(key)), child))


def _split_networks(location: tuple[str, ...], state: dict[str, Tensor], depth: int = 0) -> Iterator[StoredNetwork]:
    """A state_dict, and those in it whose names begin with that of a network: ``netG.model.0.weight``."""
    state, averaged = _strip_wrappers(state)
    averaged = averaged or any(_AVERAGED & _words(name) for name in location)
    yield StoredNetwork(location, state, averaged)
    if depth == 3:
        return
    inner: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
    inner = {head: part for head, part in inner.items() if _has_weights(part)}
    named = any(_words(head) & (_GENERATOR | _DISCRIMINATOR | _AVERAGED) for head in inner)
    if len(inner) == 1 or named or any(head in _PLAIN for head in inner):
        for head, part in inner.items():
            yield from _split_networks((*location, head), part, depth + 1)


def _strip_wrappers(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The state_dict without prefixes of wrappers and numbers beside the weights, and whether it is an average."""
    averaged = "n_averaged" in state
    if any("." in name for name in state):  # else it is a single layer, whose counter is its own
        state = {name: value for name, value in state.items() if value.ndim or "." in name}
    state = {".".join(word for word in name.split(".") if word not in _WRAPPING): v for name, v in state.items()}
    while state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state, averaged


def _words(name: str) -> set[str]:
    """``netG_state_dict`` -> net, g, state, dict; ``genA2B`` -> gen, a, 2, b; ``conv2d`` -> conv, 2d."""
    return {word.lower() for word in re.findall(r"\d+[a-z]*|[A-Z]?[a-z]+|[A-Z]+", name)}


def _preference_key(network: StoredNetwork) -> tuple[int, bool]:
    words = set().union(*map(_words, network.location)) if network.location else set()
    if words & _GENERATOR:
        role = 0
    elif words & _DISCRIMINATOR or ((found := read_architecture(network.state)) and found[0] in (PatchGAN, PixelGAN)):
        role = 2
    else:
        role = 1
    return role, not network.averaged


def _describe_content(content: Any) -> str:
    """What a file holds that has no network."""
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, not a state_dict"
    names = ", ".join(str(name)[:40] for name in list(content)[:6]) or "nothing"
    return f"holds no weights under a name that is known; it holds {names}"
