"""All plugins that one command or call uses, and the lookup of names among them."""

from __future__ import annotations

import warnings
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
from surgery.plugins.left_out_offers import is_known_to_cmap, may_offer
from surgery.plugins.name_lookup import Match, find_match
from surgery.plugins.object_kinds import KINDS, Kind
from surgery.plugins.options import configure
from surgery.plugins.plugin import Plugin
from surgery.plugins.trust_store import UntrustedPlugins, describe_untrusted, look_up_trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from surgery.output import Watcher

BUILTIN = "surgery"
"""The name of the built-in plugin."""


class Plugins:
    """The built-in plugin, the plugins that the user names, and the installed ones.

    The user names plugins by `files` (Python files and folders), in the environment variable ``SURGERY_PLUGINS``, and
    under ``[tool.surgery]`` in the nearest pyproject.toml, from the working directory upward. Named plugins are
    imported at once, installed ones when they are needed. Plugins whose names are in `blocked` are left out. With
    `bare`, only the built-in plugin and `files` are used.

    Named plugins whose path depends on the working directory run only if the user has trusted them. For those that are
    not trusted, `confirm_trust` is called and returns whether they may run; without it, they don't run.

    Each problem with a plugin is one line in `warnings`, with which `on_warning` is called at once. Broken plugins are
    left out. With `strict`, all plugins are imported at once and each problem raises PluginError. A path in `files`
    that does not exist, or a name in `blocked` that no plugin has, raises PluginError.
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
        self._failed_hooks: set[tuple[str, Kind]] = set()
        """Plugins whose hook for a kind raised an error."""
        self._blocked = {normalize_name(name): name for name in blocked}
        self._builtin = create_builtin_plugin()
        self._builtin.load()
        self._eager = [self._builtin]
        self._add([plugin for file in files for plugin in find_plugins_at(file)])
        if not bare:
            self._add(self._find_requested_plugins())
        self._check_blocked()
        if strict:
            self.check()

    @property
    def plugins(self) -> list[Plugin]:
        """All plugins that were found: built in, named, installed. Those that are ``waiting`` are not imported yet."""
        return [*self._eager, *self._installed]

    def resolve(self, kind: Kind, text: str) -> Any:
        """Return the object of a name, with the options after its colon set: ``grid:columns=8,gap=2``.

        Raises PluginError for an unknown name or option, and for a name that several plugins offer.
        """
        found = self.find(kind, text)
        if found is None:
            raise PluginError(self._describe_unknown(kind, text))
        return found[1]

    def find(self, kind: Kind, text: str) -> tuple[Plugin, Any] | None:
        """Return the plugin that offers a name and the object with its options set, or None for an unknown name.

        Raises PluginError for an unknown option, and for a name that several plugins offer.
        """
        match = self._find_match(kind, text)
        if match is None:
            if kind == "colormap" and is_known_to_cmap(text):
                self._warn_of_left_out(kind, text, "a color of the library")
            return None
        if match.name in self._collect_offers(match.plugin, kind):  # else the user has named the plugin
            self._warn_of_left_out(kind, match.name, f"that of {match.plugin.name}", match.plugin)
        value = configure(match.name, match.value, match.options) if match.options else match.value
        return match.plugin, value

    def names(self, kind: Kind) -> list[str]:
        """Return all names of a kind. All plugins are imported."""
        return [name for _, objects in self.list_offers(kind) for name in objects]

    def list_offers(self, kind: Kind) -> list[tuple[Plugin, Mapping[str, Any]]]:
        """Return each plugin with the objects of a kind that it offers, by name. All plugins are imported."""
        return list(self.iterate_offers(kind))

    def iterate_offers(self, kind: Kind) -> Iterator[tuple[Plugin, Mapping[str, Any]]]:
        """Yield each plugin with the objects of a kind that it offers. Each plugin is imported when its turn comes."""
        for plugin in self._iterate_all():
            if objects := self._collect_offers(plugin, kind):
                yield plugin, objects

    def watchers(self) -> list[Watcher]:
        """Return the watchers of all plugins that follow runs."""
        watchers = [plugin.create_watcher() for plugin in self.plugins if plugin.follows_runs and self._load(plugin)]
        return [watcher for watcher in watchers if watcher]

    def check(self) -> None:
        """Import every plugin, call its hooks, and warn of each name that several plugins offer."""
        for kind in KINDS:
            owners: dict[str, list[Plugin]] = {}
            for plugin, objects in self.list_offers(kind):
                if plugin is not self._builtin:
                    for name in objects:
                        owners.setdefault(name, []).append(plugin)
            if kind == "checkpoint":  # checkpoint readers are not requested by name
                continue
            builtin = self._collect_offers(self._builtin, kind) if kind != "colormap" else {}
            for name, plugins in owners.items():
                listed = " and ".join(plugin.name for plugin in plugins)
                full_name = f"{plugins[0].name}:{name}"
                if name in builtin:
                    self.warn(f"plugin {listed} offers {kind} {name!r}, which is surgery's own; write {full_name}")
                elif len(plugins) > 1:
                    self.warn(f"{kind} {name!r} is offered by {listed}; write {full_name}")

    def warn(self, line: str) -> None:
        """Add a line to `warnings` unless it is there; raise PluginError instead if the plugins are `strict`."""
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
        taken = {normalize_name(plugin.name): plugin for plugin in self._eager}
        found = []
        for plugin in find_installed_plugins():
            self._block(plugin)
            if other := taken.get(normalize_name(plugin.name)):
                self.warn(f"plugin {plugin.name} is left out: {other.origin} has its name")
            else:
                found.append(plugin)
        return found

    def _iterate_all(self) -> Iterator[Plugin]:
        yield from self._eager
        yield from self._installed

    def _find_requested_plugins(self) -> list[Plugin]:
        """Return the plugins that the environment and the pyproject.toml name; those that may not run are marked."""
        requests, problems = find_requests(Path.cwd())
        for line in problems:
            self.warn(line)
        found: list[Plugin] = []
        untrusted: list[UntrustedPlugins] = []
        for request in requests:
            try:
                plugins = find_plugins_at(request.path)
                if not request.needs_trust or all(normalize_name(plugin.name) in self._blocked for plugin in plugins):
                    found += plugins
                    continue
                status, digests = look_up_trust(request.path, find_plugin_files(request.path))
                plugins = find_plugins_at(request.path, digests)
            except PluginError as error:
                self.warn(str(error))
                continue
            found += plugins
            if status != "trusted":
                untrusted.append(UntrustedPlugins(request, plugins, status, digests))
        if untrusted and (self._confirm_trust is None or not self._confirm_trust(untrusted)):
            for plugin in (plugin for group in untrusted for plugin in group.plugins):
                plugin.state = "untrusted"
            self.warn(describe_untrusted(untrusted))
        return found

    def _add(self, plugins: Iterable[Plugin]) -> None:
        for plugin in plugins:
            other = next((known for known in self._eager if known.name == plugin.name), None)
            if other is None:
                self._block(plugin)
                self._eager.append(plugin)
                self._load(plugin)
            elif Path(other.origin).resolve() != Path(plugin.origin).resolve():
                self.warn(f"plugin {plugin.origin} is left out: {other.origin} has its name; rename one of them")

    def _block(self, plugin: Plugin) -> None:
        if normalize_name(plugin.name) in self._blocked:
            plugin.state = "blocked"

    def _check_blocked(self) -> None:
        if not self._blocked or self._bare:
            return
        known = {normalize_name(plugin.name): plugin.name for plugin in self.plugins if plugin is not self._builtin}
        for normalized, name in self._blocked.items():
            if normalized not in known:
                listed = f"; there is {', '.join(known.values()) or 'none'}"
                raise PluginError(f"no plugin is called {name!r}{did_you_mean(name, known.values()) or listed}")

    def _load(self, plugin: Plugin) -> bool:
        """Import a plugin unless that was done before; return whether it can be used."""
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

    def _collect_offers(self, plugin: Plugin, kind: Kind) -> Mapping[str, Any]:
        if not self._load(plugin):
            return {}
        try:
            objects, remarks = plugin.collect_offers(kind)
        except PluginError as error:
            plugin.problems.append(str(error))
            self._failed_hooks.add((plugin.name, kind))
            self.warn(f"plugin {plugin.name}: {error}; its {kind}s are left out")
            return {}
        plugin.problems += remarks
        for remark in remarks:
            self.warn(f"plugin {plugin.name}: {remark}")
        return objects

    def _find_match(self, kind: Kind, text: str) -> Match | None:
        """Find a name, first without importing installed plugins, then among those that may offer it."""
        offers = [(plugin, self._collect_offers(plugin, kind)) for plugin in self._eager]
        match = find_match(kind, text, offers, self._builtin)
        if match is not None and match.plugin is self._builtin and kind != "colormap":
            return match
        owner = normalize_name(text.partition(":")[0])
        candidates = [plugin for plugin in self._installed if normalize_name(plugin.name) == owner] or self._installed
        offers += [(plugin, self._collect_offers(plugin, kind)) for plugin in candidates]
        return find_match(kind, text, offers, self._builtin)

    def _warn_of_left_out(self, kind: Kind, name: str, taken: str, owner: Plugin | None = None) -> None:
        """Warn if a plugin that is left out may offer a name, for which the user gets another object."""
        for plugin in self._eager:
            is_untrusted = plugin.state == "untrusted"
            if not is_untrusted and plugin.state != "broken" and (plugin.name, kind) not in self._failed_hooks:
                continue
            if may_offer(plugin, kind, name):
                reason = "is not trusted (`surgery plugins trust`)" if is_untrusted else "is left out"
                write = f"; write {owner.name}:{name} if you mean this one" if owner is not None else ""
                which = f"plugin {plugin.name}, which {reason}"
                line = f"{kind} {name!r} is {taken}; {which}, has one of that name too{write}"
                self.warn(line)
                if self._on_warning is None and not self._strict:
                    warnings.warn(line, stacklevel=2)

    def _describe_unknown(self, kind: Kind, text: str) -> str:
        name = text.partition(":")[0] if "=" in text else text
        known = self.names(kind)
        listed = f"; there is {', '.join(known)}" if len(known) <= 12 else "; `surgery plugins` lists them"
        broken = [plugin.name for plugin in self.plugins if plugin.state in ("broken", "untrusted")]
        left_out = f"; left out {'is' if len(broken) == 1 else 'are'} {', '.join(broken)}" if broken else ""
        return f"no {kind} is called {name!r:.60}{did_you_mean(name, known) or listed}{left_out}"


def create_builtin_plugin() -> Plugin:
    """Return the plugin of everything that comes with the project. It is not imported yet."""
    return Plugin(BUILTIN, __version__, "built in", lambda: [import_module("surgery.builtin.hooks")])
