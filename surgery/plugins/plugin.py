"""One plugin: it is imported when it is needed, and its hooks are called through pluggy."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pluggy

from surgery.errors import PluginError
from surgery.graph import format_location
from surgery.output import Watcher
from surgery.plugins import hook_specifications as hookspecs
from surgery.plugins.guarded_calls import call_plugin, locate_definition
from surgery.plugins.hook_markers import PROJECT
from surgery.plugins.hook_validation import check_hooks, describe_invalid_offer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from surgery.plugins.object_kinds import Kind

State: TypeAlias = Literal["waiting", "ready", "broken", "blocked", "untrusted"]

SLOW_SECONDS = 1.0
"""A plugin that takes longer to be imported, or to return what it offers, gets a remark."""

_RUN_HOOKS = {
    "started": ("surgery_run_started", "run"),
    "activation": ("surgery_activation", "activation"),
    "finished": ("surgery_run_finished", "report"),
}
"""For each function of a `Watcher`, the hook that it calls and the name of the hook's argument."""


@dataclass(slots=True, eq=False)
class Plugin:
    """A plugin that was found. It may not have been imported yet."""

    name: str
    """The name of the distribution or of the file. Users write it before the colon in ``plugin:name``."""
    version: str
    origin: str
    """``built in``, ``installed``, or the path of the file."""
    import_modules: Callable[[], Sequence[object]] = field(repr=False)
    """Imports its modules and returns them."""
    follows_runs: bool = True
    """Whether its hooks of runs are called."""
    state: State = "waiting"
    """``waiting`` until it is imported, then ``ready`` or ``broken``; ``blocked`` if the user left it out,
    ``untrusted`` if the user has not allowed its code to run."""
    problems: list[str] = field(default_factory=list, init=False)
    """One line for each problem that was found with it."""
    _manager: pluggy.PluginManager | None = field(default=None, init=False, repr=False)
    _offers: dict[Kind, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False)

    def load(self) -> list[str]:
        """Import the plugin unless that was done before; return remarks on it.

        Raises PluginError if it can't be imported or its hooks are wrong.
        """
        if self.state != "waiting":
            return []
        self.state = "broken"
        with self._remark_if_slow("takes {:.1f} s to import; import large libraries inside functions") as slow:
            modules, remarks = call_plugin("can't be imported:", self.import_modules)
        remarks += slow
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(hookspecs)
        for number, module in enumerate(modules):
            check_hooks(module, manager)
            remarks += _register(manager, module, f"{self.name} {number}")
        self._manager = manager
        if not self.follows_runs and any(self.implements(hook) for hook, _ in _RUN_HOOKS.values()):
            remarks.append("follows runs, but is not called: it has no entry point in the group surgery.watchers")
        self.state = "ready"
        return remarks

    def implements(self, hook: str) -> bool:
        """Return whether the plugin, which must have been loaded, implements a hook."""
        return self._manager is not None and bool(getattr(self._manager.hook, hook).get_hookimpls())

    def collect_offers(self, kind: Kind) -> tuple[Mapping[str, Any], list[str]]:
        """Return the objects of a kind that the plugin offers, by name, and remarks on those that are left out.

        The hook is called once; after that, the same objects are returned. Raises PluginError if the hook raises or
        returns something other than a mapping.
        """
        hook = f"surgery_{kind}s"
        if kind in self._offers or not self.implements(hook):
            return self._offers.setdefault(kind, {}), []
        self._offers[kind] = {}
        with self._remark_if_slow("takes {:.1f} s; import large libraries inside the functions it offers") as slow:
            results, remarks = call_plugin(f"{hook} raised", partial(self._call, hook))
        remarks = [f"{hook} {remark}" for remark in (*remarks, *slow)]
        offers: dict[str, Any] = {}
        location = self._locate(hook)
        for result in results or [None]:
            if not isinstance(result, Mapping):
                raise PluginError(f"{hook} has to return a mapping of names, not {result!r:.60}{location}")
            for name, value in result.items():
                if invalid := describe_invalid_offer(kind, name, value):
                    remarks.append(f"{hook} offers {invalid}{location}; it is left out")
                else:
                    offers[name] = value
        # The built-in catalog of colormaps is a mapping of its own, which finds names in any case.
        self._offers[kind] = results[0] if self.origin == "built in" else offers
        return self._offers[kind], remarks

    def create_watcher(self) -> Watcher | None:
        """Return the functions that a run calls, or None if the plugin implements no hook of runs."""
        functions: dict[str, Any] = {
            moment: partial(self._call_with, hook, argument)
            for moment, (hook, argument) in _RUN_HOOKS.items()
            if self.implements(hook)
        }
        return Watcher(f"plugin {self.name}", **functions) if functions else None

    def _call(self, hook: str, **arguments: Any) -> list[Any]:
        """Call the plugin's functions for a hook. Arguments that the hook no longer has are None."""
        caller = getattr(self._manager.hook, hook)  # type: ignore[union-attr]
        results: list[Any] = caller(**(dict.fromkeys(caller.spec.argnames) | arguments))
        return results

    def _call_with(self, hook: str, argument: str, value: object) -> None:
        self._call(hook, **{argument: value})

    @contextmanager
    def _remark_if_slow(self, remark: str) -> Iterator[list[str]]:
        """Yield a list, which holds the remark with the seconds if the block takes longer than `SLOW_SECONDS`."""
        remarks: list[str] = []
        start, without_torch = time.perf_counter(), "torch" not in sys.modules
        yield remarks
        seconds = time.perf_counter() - start
        # A plugin file may import torch first: the command that loads it needs torch anyway.
        imported_torch = self.origin != "installed" and without_torch and "torch" in sys.modules
        if seconds >= SLOW_SECONDS and not imported_torch:
            remarks.append(remark.format(seconds))

    def _locate(self, hook: str) -> str:
        implementations = getattr(self._manager.hook, hook).get_hookimpls()  # type: ignore[union-attr]
        return locate_definition(implementations[0].function)


def _register(manager: pluggy.PluginManager, module: object, name: str) -> list[str]:
    """Register a module under a name; return remarks on hooks whose arguments have changed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            manager.register(module, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError("; ".join(str(error).splitlines())) from error
    return [
        f"is of another version: {warning.message} ({format_location((warning.filename, warning.lineno))})"
        for warning in caught
    ]
