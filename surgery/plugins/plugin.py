"""One plugin: imported when it is needed, asked through pluggy, and held to what its hooks say."""

from __future__ import annotations

import inspect
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import pluggy

from surgery.errors import PluginError, did_you_mean
from surgery.graph import format_location
from surgery.output import Watcher
from surgery.plugins import hook_specifications as hookspecs
from surgery.plugins.guarded_calls import call_plugin, locate_definition
from surgery.plugins.hook_markers import PROJECT
from surgery.stages import ModelFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Kind: TypeAlias = Literal["transform", "normalizer", "tiler", "colormap", "sink", "model", "checkpoint", "reader"]
KINDS: tuple[Kind, ...] = get_args(Kind)

State: TypeAlias = Literal["waiting", "ready", "broken", "blocked", "untrusted"]

SLOW = 1.0
"""How many seconds a plugin may take to be imported, or to offer, before that is said."""

_WATCHING = {
    "started": ("surgery_run_started", "run"),
    "activation": ("surgery_activation", "activation"),
    "finished": ("surgery_run_finished", "report"),
}


@dataclass(slots=True, eq=False)
class Plugin:
    """A plugin that was found, imported or not."""

    name: str
    """What stands before the colon in ``name:thing``: the distribution's name or the file's."""
    version: str
    origin: str
    """``built in``, ``installed``, or the file."""
    import_modules: Callable[[], Sequence[object]] = field(repr=False)
    """Imports its modules."""
    watches_runs: bool = True
    """Whether it is to be asked to watch runs."""
    state: State = "waiting"
    """``waiting`` until it is imported, then ``ready`` or ``broken``; ``blocked`` where it was left out on request,
    ``untrusted`` where the user did not say that its code may run."""
    problems: list[str] = field(default_factory=list, init=False)
    """A line for each thing that is wrong with it, as far as that was found."""
    _manager: pluggy.PluginManager | None = field(default=None, init=False, repr=False)
    _answers: dict[Kind, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False)

    def load(self) -> list[str]:
        """Import it, if that was not done. Returns what is to be said of it; raises PluginError where it is broken."""
        if self.state != "waiting":
            return []
        self.state = "broken"
        began, without_torch = time.perf_counter(), "torch" not in sys.modules
        modules, remarks = call_plugin("can't be imported:", self.import_modules)
        # A file of one's own may import torch at its top: it is run where torch is wanted anyway.
        excused = self.origin != "installed" and without_torch and "torch" in sys.modules
        if (seconds := time.perf_counter() - began) >= SLOW and not excused:
            remarks.append(
                f"takes {seconds:.1f} s to import; what takes long belongs inside the functions that need it"
            )
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(hookspecs)
        for number, module in enumerate(modules):
            _check(module, manager)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    manager.register(module, f"{self.name} {number}")
                except (pluggy.PluginValidationError, ValueError) as error:
                    raise PluginError("; ".join(str(error).splitlines())) from error
            remarks += [
                f"is of another version: {said.message} ({format_location((said.filename, said.lineno))})"
                for said in caught
            ]
        self._manager = manager
        if not self.watches_runs and any(self.implements(hook) for hook, _ in _WATCHING.values()):
            remarks.append(
                "watches runs, and is called only if it has an entry point of group surgery.watchers as well"
            )
        self.state = "ready"
        return remarks

    def implements(self, hook: str) -> bool:
        """Whether it has a function for a hook."""
        return self._manager is not None and bool(getattr(self._manager.hook, hook).get_hookimpls())

    def has_hook_for(self, kind: Kind) -> bool:
        """Whether it implements the hook of a kind."""
        return self.implements(f"surgery_{kind}s")

    def collect_offers(self, kind: Kind) -> tuple[Mapping[str, Any], list[str]]:
        """What it offers of a kind, and what is to be said of it: what of that is left out, and why.

        It is asked once. Raises PluginError where the hook raises, or returns no mapping.
        """
        if kind in self._answers or not self.has_hook_for(kind):
            return self._answers.setdefault(kind, {}), []
        self._answers[kind] = {}
        hook = f"surgery_{kind}s"
        with self._timed("takes {:.1f} s; what takes long belongs inside the functions that it offers") as slow:
            answers, remarks = call_plugin(f"{hook} raised", partial(self._call, hook))
        remarks = [f"{hook} {remark}" for remark in (*remarks, *slow)]
        offered: dict[str, Any] = {}
        where = self._defined_at(hook)
        for answer in answers or [None]:
            if not isinstance(answer, Mapping):
                raise PluginError(f"{hook} has to return a mapping of names, not {answer!r:.60}{where}")
            for name, value in answer.items():
                if fault := _fault(kind, name, value):
                    remarks.append(f"{hook} offers {fault}{where}; that is left out")
                else:
                    offered[name] = value
        # The built-in catalog of colormaps is asked for single names, in any case, and must stay what it is.
        self._answers[kind] = answers[0] if self.origin == "built in" else offered
        return self._answers[kind], remarks

    def create_watcher(self) -> Watcher | None:
        """What it has that is to be called in the course of a run."""
        calls: dict[str, Any] = {}
        for moment, (hook, argument) in _WATCHING.items():
            if self.implements(hook):
                calls[moment] = partial(_tell, self._call, hook, argument)
        return Watcher(f"plugin {self.name}", **calls) if calls else None

    def _call(self, hook: str, **given: Any) -> list[Any]:
        """Call its functions for a hook; arguments that the hook no longer has are None."""
        caller = getattr(self._manager.hook, hook)  # type: ignore[union-attr]
        answers: list[Any] = caller(**(dict.fromkeys(caller.spec.argnames) | given))
        return answers

    @contextmanager
    def _timed(self, remark: str) -> Iterator[list[str]]:
        """A list that the remark is put on if the block takes long."""
        slow: list[str] = []
        began, without_torch = time.perf_counter(), "torch" not in sys.modules
        yield slow
        # A file of one's own may import torch wherever it likes: it is run where torch is wanted anyway.
        excused = self.origin != "installed" and without_torch and "torch" in sys.modules
        if (seconds := time.perf_counter() - began) >= SLOW and not excused:
            slow.append(remark.format(seconds))

    def _defined_at(self, hook: str) -> str:
        implementations = getattr(self._manager.hook, hook).get_hookimpls()  # type: ignore[union-attr]
        return locate_definition(implementations[0].function)


def _tell(call: Callable[..., object], hook: str, argument: str, value: object) -> None:
    call(hook, **{argument: value})


def _check(module: object, manager: pluggy.PluginManager) -> None:
    """Raise PluginError where a module marks a function that is no hook or has arguments of none, or marks nothing."""
    known = [name for name in vars(hookspecs) if name.startswith("surgery_")]
    marked, unmarked = 0, []
    for name in dir(module):
        value = inspect.getattr_static(module, name, None)
        options = getattr(value, f"{PROJECT}_impl", None)
        if isinstance(options, dict):
            hook = options.get("specname") or name
            if hook not in known and not options.get("optionalhook"):
                raise PluginError(f"there is no hook {hook}{did_you_mean(hook, known)}{locate_definition(value)}")
            takes = getattr(manager.hook, hook).spec.argnames if hook in known else ()
            asked = inspect.signature(value).parameters if inspect.isfunction(value) else ()
            if hook in known and (others := [argument for argument in asked if argument not in takes]):
                has = ", ".join(takes) or "nothing"
                raise PluginError(f"{hook} takes {has}, and not {', '.join(others)}{locate_definition(value)}")
            marked += 1
        elif name.startswith("surgery_") and inspect.isfunction(value):
            unmarked.append(f"{name}{locate_definition(value)}")
    if not marked:
        which = unmarked[0] if unmarked else "a function such as surgery_colormaps"
        raise PluginError(f"offers nothing: mark {which} with @surgery.hookimpl")


def _fault(kind: Kind, name: object, value: object) -> str | None:
    """What is wrong with one thing that is offered, or None."""
    if not isinstance(name, str) or not name:
        return f"a {kind} under {name!r:.60}, and a name is text"
    if kind == "colormap":
        wrong = value is None or isinstance(value, (bool, int, float, bytes))
        return f"{value!r:.60} as colormap {name!r}; it is colors, a name or a function" if wrong else None
    if kind == "model":
        right = callable(value) or isinstance(value, ModelFamily)
        return None if right else f"{value!r:.60} as model {name!r}; it is a function or a ModelFamily"
    if isinstance(value, type):
        return f"the class {value.__name__} as {kind} {name!r}; it is an instance, {value.__name__}()"
    return None if callable(value) else f"{value!r:.60} as {kind} {name!r}; it is a function"
