"""Finding plugins, and the values that their names stand for."""

from __future__ import annotations

import sys
import types
import typing
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from importlib.metadata import Distribution, distributions, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_origin

import pluggy

from surgery import hookspecs
from surgery.builtin import hooks
from surgery.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Kind: TypeAlias = Literal["transform", "normalizer", "tiler", "colormap", "sink", "model", "checkpoint", "reader"]
KINDS: tuple[Kind, ...] = get_args(Kind)

BUILTIN = "surgery"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that was found."""

    name: str
    """What stands before the colon in ``name:thing``: the distribution's name or the file's."""
    version: str
    origin: str
    """``built in``, ``installed``, or the file."""
    module: object = field(repr=False)

    def offers(self, kind: Kind) -> bool:
        """Whether it implements the hook of a kind."""
        return callable(getattr(self.module, f"surgery_{kind}s", None))


class Plugins:
    """The plugins of one use: the built-in one, those installed, and files that are named.

    One that can't be loaded is left out, and said in `troubles`; where it was named by its file, PluginError is raised.
    """

    def __init__(self, files: Sequence[str | Path] = ()) -> None:
        self.troubles: list[str] = []
        self.plugins: list[Plugin] = []
        self._answers: dict[tuple[str, Kind], Mapping[str, Any]] = {}
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._add(Plugin(BUILTIN, version("surgery"), "built in", hooks))
        for distribution in distributions():
            for entry in distribution.entry_points.select(group=hookspecs.PROJECT):
                self._tolerate(partial(_installed, entry, distribution))
        for file in files:
            self._add(_from_file(Path(file)))

    def resolve(self, kind: Kind, text: str) -> Any:
        """The value of a name, with the options behind its colon: ``grid:columns=8,gap=2``.

        Raises PluginError, saying what there is, for an unknown name or option and for a name offered twice.
        """
        name, value, options = self._find(kind, text)
        return _configured(name, value, options) if options else value

    def names(self, kind: Kind) -> list[str]:
        """All names of a kind, as they are offered."""
        return [name for _, offered in self.offered(kind) for name in offered]

    def offered(self, kind: Kind) -> list[tuple[Plugin, Mapping[str, Any]]]:
        """What each plugin offers of a kind."""
        found: list[tuple[Plugin, Mapping[str, Any]]] = []
        for plugin in self.plugins:
            if plugin.offers(kind):
                try:
                    found.append((plugin, self._ask(plugin, kind)))
                except PluginError as error:
                    self._pass_over(plugin, error)
        return found

    def _ask(self, plugin: Plugin, kind: Kind) -> Mapping[str, Any]:
        if (plugin.name, kind) in self._answers:
            return self._answers[plugin.name, kind]
        hook = f"surgery_{kind}s"
        others = [other.module for other in self.plugins if other is not plugin]
        caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
        try:
            answers = caller()
        except Exception as error:
            raise PluginError(f"plugin {plugin.name}: {hook} raised {type(error).__name__}: {error}") from error
        from collections.abc import Mapping

        for answer in answers:
            if not isinstance(answer, Mapping) or not all(isinstance(name, str) for name in answer):
                raise PluginError(f"plugin {plugin.name}: {hook} has to return a mapping of names, not {answer!r:.60}")
        self._answers[plugin.name, kind] = answers[0] if answers else {}
        return self._answers[plugin.name, kind]

    def _find(self, kind: Kind, text: str) -> tuple[str, Any, str]:
        """Name, value and the text of the options. A colon may belong to a name, to its owner or to the options."""
        offered = self.offered(kind)
        cuts = [index for index, letter in enumerate(text) if letter == ":"]
        for cut in (len(text), *reversed(cuts)):
            name, options = text[:cut], text[cut + 1 :]
            if options and "=" not in options:
                continue
            owners = [(plugin, values[name]) for plugin, values in offered if name in values]
            if not owners and ":" in name:
                owner, _, bare = name.partition(":")
                owners = [
                    (plugin, values[bare]) for plugin, values in offered if plugin.name == owner and bare in values
                ]
            if kind == "colormap" and len(owners) > 1:  # cmap has so many names that a new one often meets another
                owners = [owner for owner in owners if owner[0].name != BUILTIN]
            if len(owners) > 1:
                said = " and ".join(plugin.name for plugin, _ in owners)
                both = "both " if len(owners) == 2 else ""
                raise PluginError(f"{kind} {name!r} is offered by {both}{said}; write {owners[-1][0].name}:{name}")
            if owners:
                return name, owners[0][1], options
        asked = text.partition(":")[0] if "=" in text else text
        known = [name for _, values in offered for name in values]
        listed = f"; there is {', '.join(known)}" if len(known) <= 12 else "; `surgery plugins` lists them"
        raise PluginError(f"no {kind} is called {asked!r}{did_you_mean(asked, known) or listed}")

    def _tolerate(self, find: Callable[[], Plugin]) -> None:
        """Add a plugin, or leave it out if it is broken: nobody named it, and others do not need it."""
        try:
            self._add(find())
        except PluginError as error:
            self.troubles.append(str(error))

    def _pass_over(self, plugin: Plugin, error: PluginError) -> None:
        if plugin.origin != "installed":
            raise error
        if str(error) not in self.troubles:
            self.troubles.append(str(error))

    def _add(self, plugin: Plugin) -> None:
        known = [name for name in vars(hookspecs) if name.startswith("surgery_")]
        for name in vars(plugin.module):
            if name.startswith("surgery_") and hasattr(vars(plugin.module)[name], "surgery_impl") and name not in known:
                raise PluginError(f"plugin {plugin.name}: there is no hook {name}{did_you_mean(name, known)}")
        if any(other.name == plugin.name for other in self.plugins):
            raise PluginError(f"two plugins are called {plugin.name}; rename one of them")
        try:
            self._manager.register(plugin.module, plugin.name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"plugin {plugin.name}: {'; '.join(str(error).splitlines())}") from error
        self.plugins.append(plugin)


def _installed(entry: Any, owner: Distribution) -> Plugin:
    name = owner.metadata["Name"]
    try:
        module = entry.load()
    except Exception as error:
        raise PluginError(f"plugin {name} can't be imported: {type(error).__name__}: {error}") from error
    return Plugin(name, owner.version, "installed", module)


def _from_file(file: Path) -> Plugin:
    if not file.is_file():
        raise PluginError(f"there is no plugin file {file}")
    spec = spec_from_file_location(f"surgery_plugin_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is no Python file; a plugin is a module like ember.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise PluginError(f"plugin {file} can't be imported: {type(error).__name__}: {error}") from error
    if not any(hasattr(value, "surgery_impl") for value in vars(module).values()):
        raise PluginError(
            f"plugin {file} offers nothing: mark a function such as surgery_colormaps with @surgery.hookimpl"
        )
    return Plugin(file.name, "", str(file), module)


def _configured(name: str, value: Any, options: str) -> Any:
    """A stage with some of its options set from text."""
    if not is_dataclass(value) or isinstance(value, type) or not fields(value):
        raise PluginError(f"{name} takes no options")
    hints = typing.get_type_hints(type(value), vars(sys.modules[type(value).__module__]))
    changes: dict[str, Any] = {}
    for option in options.split(","):
        key, equals, text = (part.strip() for part in option.partition("="))
        if not equals:
            raise PluginError(f"options of {name} are written name=value, not {option!r}")
        names = [known.name for known in fields(value)]
        if key not in names:
            near = did_you_mean(key, names)
            raise PluginError(f"no option of {name} is called {key!r}; it takes {', '.join(names)}{near}")
        changes[key] = _converted(name, key, text, hints[key])
    return replace(value, **changes)


def _converted(name: str, option: str, text: str, hint: Any) -> Any:
    for candidate, _ in _alternatives(hint):
        try:
            return candidate(text)
        except (ValueError, KeyError):
            continue
    wanted = " or ".join(wanted for _, wanted in _alternatives(hint))
    raise PluginError(f"{option} of {name} takes {wanted}, not {text!r}")


def _alternatives(hint: Any) -> Iterator[tuple[Callable[[str], Any], str]]:
    """Each way to read a value of this type from text, and its name."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        for part in get_args(hint):
            yield from _alternatives(part)
    elif get_origin(hint) is Literal:
        choices = {str(choice): choice for choice in get_args(hint)}
        yield choices.__getitem__, ", ".join(choices)
    elif hint is type(None):
        yield {"none": None, "": None}.__getitem__, "none"
    elif hint is bool:
        yield (
            {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.__getitem__,
            "true or false",
        )
    elif hint is int:
        yield int, "a whole number"
    elif hint is float:
        yield float, "a number"
    else:
        yield str, "text"
