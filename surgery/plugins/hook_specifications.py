"""Hooks: the functions by which a plugin offers objects and follows runs.

A plugin is a Python module. It contains functions with the names below, each marked with `surgery.hookimpl`.
`surgery plugins new` writes a working plugin of any kind, and `surgery plugins check` checks one against the contracts
that are specified here.

**Where plugins are found.** A plugin is a file or a folder that is named by `--plugin`, in the environment variable
`SURGERY_PLUGINS`, or in the list `plugins` under `[tool.surgery]` of a `pyproject.toml`, whose plugins the user has to
trust. Or it is an installed distribution with an entry point in the group `surgery`. An installed plugin is imported
when a name is requested that neither the project nor a named plugin offers. An installed plugin with one of the hooks
of runs (`surgery_run_started`, `surgery_activation`, `surgery_run_finished`) also needs an entry point in the group
`surgery.watchers`; it is imported for every run.

**Hooks that offer objects** return a mapping from names to objects that are ready for use. Such a hook is called at
most once, when a name of its kind is looked up or when everything is listed. So that listing stays fast, import large
libraries inside the functions that you offer.

**Names.** If two plugins offer the same name, users write `plugin:name`, where `plugin` is the name of the distribution
or of the file. If an installed plugin offers a name that the project itself offers, the plain name stays the project's.

**Options.** An object with options is a frozen dataclass with a method `__call__`. Its fields are the options, and the
command line sets them: `--transform topk:k=4`.

**Errors.** A plugin that raises, or whose hook returns something other than specified, is reported in one line and left
out; with `--strict-plugins` that is an error.

**Versions.** An implementation may take fewer arguments than the hook has. If a later version of a hook drops an
argument, implementations that still take it receive None, and a line tells their author.
"""

from surgery.plugins.drawing_hooks import (
    surgery_colormaps,
    surgery_normalizers,
    surgery_tilers,
    surgery_transforms,
)
from surgery.plugins.edit_hooks import surgery_edits
from surgery.plugins.engine_hooks import surgery_engines
from surgery.plugins.file_hooks import surgery_checkpoints, surgery_models, surgery_readers, surgery_sinks
from surgery.plugins.measure_hooks import surgery_measures
from surgery.plugins.run_hooks import surgery_activation, surgery_run_finished, surgery_run_started

__all__ = [
    "surgery_activation",
    "surgery_checkpoints",
    "surgery_colormaps",
    "surgery_edits",
    "surgery_engines",
    "surgery_measures",
    "surgery_models",
    "surgery_normalizers",
    "surgery_readers",
    "surgery_run_finished",
    "surgery_run_started",
    "surgery_sinks",
    "surgery_tilers",
    "surgery_transforms",
]
