"""All plugins of one use, and the values that their names stand for."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery import __version__
from surgery.errors import PluginError, did_you_mean
from surgery.plugins.discovery import (
    find_installed_plugins,
    find_plugin_files,
    find_plugins_at,
    find_requests,
    normalize_name,
)
from surgery.plugins.options import configure
from surgery.plugins.plugin import KINDS, Kind, Plugin
from surgery.plugins.trusted_files import UntrustedPlugins, describe_untrusted, look_up_trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from surgery.output import Watcher

__all__ = ["BUILTIN", "KINDS", "Kind", "Plugin", "Plugins"]

BUILTIN = "surgery"


class Plugins:
    """The plugins of one use: the built-in one, those that are named, and those that are installed.

    Named are `files` (Python files and folders), those in the environment variable ``SURGERY_PLUGINS``, and those under
    ``[tool.surgery]`` in the nearest pyproject.toml from the working directory upward. They are imported at once, and
    installed ones when they are needed. `blocked` are left out by name; with `bare`, all are but the built-in one and
    `files`.

    Those that the working directory decides on, by its pyproject.toml or a relative path in ``SURGERY_PLUGINS``, run
    once the user trusts them (`trusted_files`). `confirm_trust` is asked for those that are not: it is given
    `UntrustedPlugins` and returns whether they may run. Without it they do not.

    What is wrong with a plugin is a line in `warnings`, told to `on_warning` at once; what is broken is left out. With
    `strict`, everything is imported and asked at once, and what is wrong raises PluginError. So does a file that is not
    there.
    """

    def __init__(
        self,
        files: Sequence[str | Path] = (),
        *,
        blocked: Iterable[str] = (),
        bare: bool = False,
        strict: bool = False,
        on_warning: Callable[[str], object] | None = None,
        confirm_trust: Callable[[Sequence[UntrustedPlugins]], bool] | None = None,
    ) -> None:
        self.warnings: list[str] = []
        self._strict = strict
        self._on_warning = on_warning
        self._confirm_trust = confirm_trust
        self._bare = bare
        self._blocked = {normalize_name(name): name for name in blocked}
        self._builtin = create_builtin_plugin()
        self._builtin.load()
        self._near = [self._builtin]
        self._add([plugin for file in files for plugin in find_plugins_at(file)])
        if not bare:
            self._add(self._of_the_user())
        self._check_blocked()
        if strict:
            self.check()

    @property
    def plugins(self) -> list[Plugin]:
        """All that were found: built in, named, installed. Those that are ``waiting`` are not imported yet."""
        return [*self._near, *self._installed]

    def resolve(self, kind: Kind, text: str) -> Any:
        """The value of a name, with the options behind its colon: ``grid:columns=8,gap=2``.

        Raises PluginError, saying what there is, for an unknown name or option and for a name offered twice.
        """
        found = self.find(kind, text)
        if found is None:
            raise PluginError(self._unknown(kind, text))
        return found[1]

    def find(self, kind: Kind, text: str) -> tuple[Plugin, Any] | None:
        """Whose a name is, and its value with the options behind its colon; None where nothing is called so.

        Raises PluginError for an unknown option and for a name offered twice.
        """
        found = self._find(kind, text)
        if found is None:
            return None
        name, (owner, value), options = found
        return owner, configure(name, value, options) if options else value

    def names(self, kind: Kind) -> list[str]:
        """All names of a kind, as they are offered."""
        return [name for _, offered in self.list_offers(kind) for name in offered]

    def list_offers(self, kind: Kind) -> list[tuple[Plugin, Mapping[str, Any]]]:
        """What each plugin offers of a kind. All of them are imported."""
        return list(self.iterate_offers(kind))

    def iterate_offers(self, kind: Kind) -> Iterator[tuple[Plugin, Mapping[str, Any]]]:
        """What each plugin offers of a kind, the next plugin imported when it is asked for."""
        for plugin in self._all():
            if offered := self._ask(plugin, kind):
                yield plugin, offered

    def watchers(self) -> list[Watcher]:
        """The functions of plugins that are to be called in the course of a run."""
        watching = (plugin.create_watcher() for plugin in self.plugins if plugin.watches_runs and self._loaded(plugin))
        return [watcher for watcher in watching if watcher]

    def check(self) -> None:
        """Import and ask every plugin, and find the names that two of them offer."""
        for kind in KINDS:
            owners: dict[str, list[Plugin]] = {}
            for plugin, values in self.list_offers(kind):
                if plugin is not self._builtin:
                    for name in values:
                        owners.setdefault(name, []).append(plugin)
            if kind == "checkpoint":  # nobody asks for these by name
                continue
            own = self._ask(self._builtin, kind) if kind != "colormap" else {}
            for name, several in owners.items():
                said = " and ".join(plugin.name for plugin in several)
                if name in own:
                    self.warn(
                        f"plugin {said} offers {kind} {name!r}, which is surgery's own; write {several[0].name}:{name}"
                    )
                elif len(several) > 1:
                    self.warn(f"{kind} {name!r} is offered by {said}; write {several[0].name}:{name}")

    def warn(self, line: str) -> None:
        """Have it said that something is wrong with a plugin, once; raises PluginError where that is an error."""
        if line in self.warnings:
            return
        self.warnings.append(line)
        if self._strict:
            raise PluginError(line)
        if self._on_warning:
            self._on_warning(line)

    @cached_property
    def _installed(self) -> list[Plugin]:
        if self._bare:
            return []
        found = []
        for plugin in find_installed_plugins():
            self._block(plugin)
            other = next(
                (near for near in self._near if normalize_name(near.name) == normalize_name(plugin.name)), None
            )
            if other is not None:
                self.warn(f"plugin {plugin.name} is left out: {other.origin} has its name")
            else:
                found.append(plugin)
        return found

    def _all(self) -> Iterator[Plugin]:
        yield from self._near
        yield from self._installed

    def _of_the_user(self) -> list[Plugin]:
        """The plugins that the environment and the user's pyproject.toml name."""
        asked, absent = find_requests(Path.cwd())
        for line in absent:
            self.warn(line)
        found: list[Plugin] = []
        unvetted: list[UntrustedPlugins] = []
        for request in asked:
            try:
                plugins = find_plugins_at(request.path)
                if not request.is_local or all(normalize_name(plugin.name) in self._blocked for plugin in plugins):
                    found += plugins
                    continue
                standing, files = look_up_trust(request.path, find_plugin_files(request.path))
                found += (plugins := find_plugins_at(request.path, files))
            except PluginError as error:
                self.warn(str(error))
                continue
            if standing != "trusted":
                unvetted.append(UntrustedPlugins(request, plugins, standing, files))
        if unvetted and (self._confirm_trust is None or not self._confirm_trust(unvetted)):
            for one in unvetted:
                for plugin in one.plugins:
                    plugin.state = "untrusted"
            self.warn(describe_untrusted(unvetted))
        return found

    def _add(self, found: Iterable[Plugin]) -> None:
        for plugin in found:
            other = next((near for near in self._near if near.name == plugin.name), None)
            if other is None:
                self._block(plugin)
                self._near.append(plugin)
                self._loaded(plugin)
            elif Path(other.origin).resolve() != Path(plugin.origin).resolve():
                self.warn(f"plugin {plugin.origin} is left out: {other.origin} has its name; rename one of them")

    def _block(self, plugin: Plugin) -> None:
        if normalize_name(plugin.name) in self._blocked:
            plugin.state = "blocked"

    def _check_blocked(self) -> None:
        if self._blocked:
            there = {normalize_name(plugin.name): plugin.name for plugin in self.plugins if plugin is not self._builtin}
            for name, asked in self._blocked.items():
                if name not in there and not self._bare:
                    listed = f"; there is {', '.join(there.values()) or 'none'}"
                    near = did_you_mean(asked, there.values()) or listed
                    raise PluginError(f"no plugin is called {asked!r}{near}")

    def _loaded(self, plugin: Plugin) -> bool:
        """Import a plugin, if that was not done, and say whether it can be asked."""
        try:
            remarks = plugin.load()
        except PluginError as error:
            plugin.problems.append(str(error))
            self.warn(f"plugin {plugin.name} is left out: {error}")
            return False
        plugin.problems += remarks
        for remark in remarks:
            self.warn(f"plugin {plugin.name} {remark}")
        return plugin.state == "ready"

    def _ask(self, plugin: Plugin, kind: Kind) -> Mapping[str, Any]:
        if not self._loaded(plugin):
            return {}
        try:
            offered, remarks = plugin.collect_offers(kind)
        except PluginError as error:
            plugin.problems.append(str(error))
            self.warn(f"plugin {plugin.name}: {error}; its {kind}s are left out")
            return {}
        plugin.problems += remarks
        for remark in remarks:
            self.warn(f"plugin {plugin.name}: {remark}")
        return offered

    def _find(self, kind: Kind, text: str) -> tuple[str, tuple[Plugin, Any], str] | None:
        """Name, owner and value, options. Installed plugins are imported if the name may be one of theirs."""
        near = [(plugin, self._ask(plugin, kind)) for plugin in self._near]
        found = self._look(kind, text, near)
        if found is None or kind == "colormap" or found[1][0] is not self._builtin:
            owner = normalize_name(text.partition(":")[0])
            asked = [plugin for plugin in self._installed if normalize_name(plugin.name) == owner] or self._installed
            found = self._look(kind, text, [*near, *((plugin, self._ask(plugin, kind)) for plugin in asked)])
        return found

    def _look(
        self, kind: Kind, text: str, offered: Sequence[tuple[Plugin, Mapping[str, Any]]]
    ) -> tuple[str, tuple[Plugin, Any], str] | None:
        """A name's owner and value among what is offered. A colon may belong to the name, its owner or the options."""
        cuts = [index for index, letter in enumerate(text) if letter == ":"]
        for cut in (len(text), *reversed(cuts)):
            name, options = text[:cut], text[cut + 1 :]
            if options and "=" not in options:
                continue
            owners = [(plugin, values[name]) for plugin, values in offered if name in values]
            if not owners and ":" in name:
                owner, _, bare = name.partition(":")
                owners = [
                    (plugin, values[bare])
                    for plugin, values in offered
                    if normalize_name(plugin.name) == normalize_name(owner) and bare in values
                ]
            if len(owners) > 1 and kind == "colormap":  # cmap has so many names that a new one often meets another
                owners = [owner for owner in owners if owner[0] is not self._builtin]
            if len(owners) > 1:
                said = " and ".join(plugin.name for plugin, _ in owners)
                both = "both " if len(owners) == 2 else ""
                raise PluginError(f"{kind} {name!r} is offered by {both}{said}; write {owners[-1][0].name}:{name}")
            if owners:
                return name, owners[0], options
        return None

    def _unknown(self, kind: Kind, text: str) -> str:
        asked = text.partition(":")[0] if "=" in text else text
        known = self.names(kind)
        listed = f"; there is {', '.join(known)}" if len(known) <= 12 else "; `surgery plugins` lists them"
        broken = [plugin.name for plugin in self.plugins if plugin.state in ("broken", "untrusted")]
        left = f"; left out {'is' if len(broken) == 1 else 'are'} {', '.join(broken)}" if broken else ""
        return f"no {kind} is called {asked!r}{did_you_mean(asked, known) or listed}{left}"


def create_builtin_plugin() -> Plugin:
    """What comes with the project, as a plugin."""
    return Plugin(BUILTIN, __version__, "built in", lambda: [import_module("surgery.builtin.hooks")])
