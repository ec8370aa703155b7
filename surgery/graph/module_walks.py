"""The modules of a model, listed in a fraction of the time of `nn.Module.named_modules`."""

from __future__ import annotations

from torch import nn


def list_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return what `named_modules` yields: each module of a model once, with its path, a parent before its children."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[nn.Module] = set()
    waiting = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if module in seen:
            continue
        if type(module).named_modules is not nn.Module.named_modules:  # the class has its own idea of its modules
            own = [(name, each) for name, each in module.named_modules(prefix=path) if each not in seen]
            seen.update(each for _, each in own)
            found += own
            continue
        seen.add(module)
        found.append((path, module))
        prefix = f"{path}." if path else ""
        children = [(prefix + name, child) for name, child in module._modules.items() if child is not None]  # noqa: SLF001
        waiting += reversed(children)
    return found
