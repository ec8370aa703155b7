"""All plugins of one use, and the values that their names stand for."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery import __version__
from surgery.errors import PluginError, did_you_mean
from surgery.plugins.discovery import canonical, files_of, installed, named, requests
from surgery.plugins.options import configured
from surgery.plugins.plugin import KINDS, Kind, Plugin
from surgery.plugins.trusted_files import Unvetted, said_of_unvetted, standing_of

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
    once the user trusts them (`trusted_files`). `trust` is asked for those that are not: it is given `Unvetted` and
    returns whether they may run. Without it they do not.

    What is wrong with a plugin is a line in `troubles`, told to `tell` at once, and what is broken is left out; with
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
        tell: Callable[[str], object] | None = None,
        trust: Callable[[Sequence[Unvetted]], bool] | None = None,
    ) -> None:
        self.troubles: list[str] = []
        self._strict = strict
        self._tell = tell
        self._trust = trust
        self._bare = bare
        self._blocked = {canonical(name): name for name in blocked}
        self._builtin = builtin()
        self._builtin.load()
        self._near = [self._builtin]
        self._add([plugin for file in files for plugin in named(file)])
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
        return owner, configured(name, value, options) if options else value

    def names(self, kind: Kind) -> list[str]:
        """All names of a kind, as they are offered."""
        return [name for _, offered in self.offered(kind) for name in offered]

    def offered(self, kind: Kind) -> list[tuple[Plugin, Mapping[str, Any]]]:
        """What each plugin offers of a kind. All of them are imported."""
        return list(self.each(kind))

    def each(self, kind: Kind) -> Iterator[tuple[Plugin, Mapping[str, Any]]]:
        """What each plugin offers of a kind, the next plugin imported when it is asked for."""
        for plugin in self._all():
            if offered := self._ask(plugin, kind):
                yield plugin, offered

    def watchers(self) -> list[Watcher]:
        """The functions of plugins that are to be called in the course of a run."""
        watching = (plugin.watcher() for plugin in self.plugins if plugin.watches and self._loaded(plugin))
        return [watcher for watcher in watching if watcher]

    def check(self) -> None:
        """Import and ask every plugin, and find the names that two of them offer."""
        for kind in KINDS:
            owners: dict[str, list[Plugin]] = {}
            for plugin, values in self.offered(kind):
                if plugin is not self._builtin:
                    for name in values:
                        owners.setdefault(name, []).append(plugin)
            if kind == "checkpoint":  # nobody asks for these by name
                continue
            own = self._ask(self._builtin, kind) if kind != "colormap" else {}
            for name, several in owners.items():
                said = " and ".join(plugin.name for plugin in several)
                if name in own:
                    self.trouble(
                        f"plugin {said} offers {kind} {name!r}, which is surgery's own; write {several[0].name}:{name}"
                    )
                elif len(several) > 1:
                    self.trouble(f"{kind} {name!r} is offered by {said}; write {several[0].name}:{name}")

    def trouble(self, line: str) -> None:
        """Have it said that something is wrong with a plugin, once; raises PluginError where that is an error."""
        if line in self.troubles:
            return
        self.troubles.append(line)
        if self._strict:
            raise PluginError(line)
        if self._tell:
            self._tell(line)

    @cached_property
    def _installed(self) -> list[Plugin]:
        if self._bare:
            return []
        found = []
        for plugin in installed():
            self._block(plugin)
            other = next((near for near in self._near if canonical(near.name) == canonical(plugin.name)), None)
            if other is not None:
                self.trouble(f"plugin {plugin.name} is left out: {other.origin} has its name")
            else:
                found.append(plugin)
        return found

    def _all(self) -> Iterator[Plugin]:
        yield from self._near
        yield from self._installed

    def _of_the_user(self) -> list[Plugin]:
        """The plugins that the environment and the user's pyproject.toml name."""
        asked, absent = requests(Path.cwd())
        for line in absent:
            self.trouble(line)
        found: list[Plugin] = []
        unvetted: list[Unvetted] = []
        for request in asked:
            try:
                plugins = named(request.path)
                if not request.local or all(canonical(plugin.name) in self._blocked for plugin in plugins):
                    found += plugins
                    continue
                standing, files = standing_of(request.path, files_of(request.path))
                found += (plugins := named(request.path, files))
            except PluginError as error:
                self.trouble(str(error))
                continue
            if standing != "trusted":
                unvetted.append(Unvetted(request, plugins, standing, files))
        if unvetted and (self._trust is None or not self._trust(unvetted)):
            for one in unvetted:
                for plugin in one.plugins:
                    plugin.state = "untrusted"
            self.trouble(said_of_unvetted(unvetted))
        return found

    def _add(self, found: Iterable[Plugin]) -> None:
        for plugin in found:
            other = next((near for near in self._near if near.name == plugin.name), None)
            if other is None:
                self._block(plugin)
                self._near.append(plugin)
                self._loaded(plugin)
            elif Path(other.origin).resolve() != Path(plugin.origin).resolve():
                self.trouble(f"plugin {plugin.origin} is left out: {other.origin} has its name; rename one of them")

    def _block(self, plugin: Plugin) -> None:
        if canonical(plugin.name) in self._blocked:
            plugin.state = "blocked"

    def _check_blocked(self) -> None:
        if self._blocked:
            there = {canonical(plugin.name): plugin.name for plugin in self.plugins if plugin is not self._builtin}
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
            plugin.faults.append(str(error))
            self.trouble(f"plugin {plugin.name} is left out: {error}")
            return False
        plugin.faults += remarks
        for remark in remarks:
            self.trouble(f"plugin {plugin.name} {remark}")
        return plugin.state == "ready"

    def _ask(self, plugin: Plugin, kind: Kind) -> Mapping[str, Any]:
        if not self._loaded(plugin):
            return {}
        try:
            offered, remarks = plugin.ask(kind)
        except PluginError as error:
            plugin.faults.append(str(error))
            self.trouble(f"plugin {plugin.name}: {error}; its {kind}s are left out")
            return {}
        plugin.faults += remarks
        for remark in remarks:
            self.trouble(f"plugin {plugin.name}: {remark}")
        return offered

    def _find(self, kind: Kind, text: str) -> tuple[str, tuple[Plugin, Any], str] | None:
        """Name, owner and value, options. Installed plugins are imported if the name may be one of theirs."""
        near = [(plugin, self._ask(plugin, kind)) for plugin in self._near]
        found = self._look(kind, text, near)
        if found is None or kind == "colormap" or found[1][0] is not self._builtin:
            owner = canonical(text.partition(":")[0])
            asked = [plugin for plugin in self._installed if canonical(plugin.name) == owner] or self._installed
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
                    if canonical(plugin.name) == canonical(owner) and bare in values
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


def builtin() -> Plugin:
    """What comes with the project, as a plugin."""
    return Plugin(BUILTIN, __version__, "built in", lambda: [import_module("surgery.builtin.hooks")])
