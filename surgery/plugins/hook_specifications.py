"""The hooks: what a plugin can offer, and what it can watch.

A plugin is a module in which functions marked with `surgery.hookimpl` have the names below. It comes in a file or a
folder that is named (``--plugin``, ``SURGERY_PLUGINS``, ``plugins`` under ``[tool.surgery]`` of a pyproject.toml, which
the user has to trust), or in an installed distribution with an entry point of group ``surgery``.
An installed one is imported when a name is asked for that is not the project's own; one that watches runs has an entry
point of group ``surgery.watchers`` as well, and is imported for every run.

``surgery plugins new`` begins one of any kind, and ``surgery plugins check`` holds one against what is promised here.

The hooks of the first part return mappings from names to values that are ready to be used. Each is called once at most,
when that kind of thing is wanted or everything is listed, so imports of heavy libraries belong inside the functions
that are offered. Names of several plugins stand
side by side, and one that two of them offer is written ``plugin:name``, where ``plugin`` is the distribution's name or
the file's. A name of the project's own stays its own when an installed plugin offers it too. A plugin that raises, or
that returns something else than its hook says, is reported in one line and left out.

A hook may be implemented with fewer arguments than it has here. One that no longer has an argument is called with None
for it, and the plugin's author is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.output import Report, RunStart
    from surgery.stages import (
        CheckpointReader,
        Colormap,
        ModelFactory,
        ModelFamily,
        Normalizer,
        Reader,
        Sink,
        Tiler,
        Transform,
    )
    from surgery.types import Activation

PROJECT = "surgery"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def surgery_transforms() -> Mapping[str, Transform]:  # type: ignore[empty-body]
    """Other maps of an activation's, before their limits are found.

    Called: once, when a transform is asked for by name or all are listed.
    Takes: nothing.
    Returns: name -> function of ``(B, C, H, W)`` float32 or float64, any range, NaN and infinities as they were
        computed, that returns ``(B, C', H', W')`` float, each image's own. It must not write to its input, which are
        the model's live values. With an attribute ``color`` that is true, C' is 3 and the picture RGB. One with options
        is a frozen dataclass with ``__call__``, whose fields the command line sets: ``--transform topk:k=4``.
    Several: side by side; a name offered twice is written ``plugin:name``. A run applies those asked for in order.
    Example, ``--transform root``:

        import surgery

        @surgery.hookimpl
        def surgery_transforms():
            return {"root": lambda maps: maps.abs().sqrt()}
    """


@hookspec
def surgery_normalizers() -> Mapping[str, Normalizer]:  # type: ignore[empty-body]
    """Which values are the two ends of the scale.

    Called: once, when a normalizer is asked for by name or all are listed.
    Takes: nothing.
    Returns: name -> function of ``(B, C, H, W)`` float32 or float64, finite, any range, that returns `low` and `high`,
        each broadcastable to ``(B, C, 1, 1)``, finite, with ``low <= high``. It must not write to its input. One with
        options is a frozen dataclass with ``__call__``: ``--normalizer above:least=0.5``.
    Several: side by side; a name offered twice is written ``plugin:name``. A run has one.
    Example, ``--normalizer unit``:

        import surgery

        @surgery.hookimpl
        def surgery_normalizers():
            return {"unit": lambda values: (values.new_zeros(()), values.new_ones(()))}
    """


@hookspec
def surgery_tilers() -> Mapping[str, Tiler]:  # type: ignore[empty-body]
    """How the channels of one activation lie in a picture.

    Called: once, when a tiler is asked for by name or all are listed.
    Takes: nothing.
    Returns: name -> function of ``(B, C, H, W)`` uint8 codes that returns ``(B, N, H', W')`` uint8 codes, N pictures
        for each image: 0 to 250 stand for values, 252 to 254 for NaN and infinities, 255 is background. It must not
        write to its input. One with options is a frozen dataclass with ``__call__``: ``--tiler grid:columns=8``. One
        that lays maps in rows is faster where it says how by a ``layout``: see `surgery.stages.Tiler`.
    Several: side by side; a name offered twice is written ``plugin:name``. A run has one.
    Example, ``--tiler first``:

        import surgery

        @surgery.hookimpl
        def surgery_tilers():
            return {"first": lambda levels: levels[:, :1]}
    """


@hookspec
def surgery_colormaps() -> Mapping[str, Colormap]:  # type: ignore[empty-body]
    """Which color each level has.

    Called: once, when a colormap is asked for by name or all are listed.
    Takes: nothing.
    Returns: name -> a list of colors, anything else that `cmap.Colormap` takes, or a function of ``(N,)`` float64 in
        [0, 1] that returns ``(N, 3)`` or ``(N, 4)`` in [0, 1].
    Several: side by side; a name offered twice is written ``plugin:name``. One of the `cmap` library's 1,500 names
        stands behind a plugin's of the same name.
    Example, ``--colormap ember``:

        import surgery

        @surgery.hookimpl
        def surgery_colormaps():
            return {"ember": ["black", "darkred", "orange", "white"]}
    """


@hookspec
def surgery_sinks() -> Mapping[str, Sink]:  # type: ignore[empty-body]
    r"""Where activations go.

    Called: once, when a sink is asked for by name or all are listed.
    Takes: nothing.
    Returns: name -> ``@contextmanager`` function that takes the run's `OutputFolder` and yields a function of one
        `Activation`. That is called inside the model's forward: what is kept of ``activation.values``, any shape and
        dtype, must be copied. Pictures are made when ``activation.pictures`` is read. Files are written through
        ``folder.file(name)``, which makes them appear whole and lists them in the manifest. Any name is taken: parts
        that a file system can't have, or that lead out of the folder, are changed. ``surgery.file_name(text)`` makes
        one part of a name of any text, such as a path with slashes or of 300 characters.
        ``folder.when_finished(callback)`` tells when all activations of an image have been offered, and
        ``folder.when_dropped(callback)`` that an image failed half-way, of which nothing is to be left. In a run the
        calls come one after another; several runs may go on at once, each with a folder of its own. A sink that uses
        pictures, levels and facts alone says so with an attribute ``deferred`` that is true, and is called on another
        thread. One with options is a frozen dataclass with ``__call__``: ``--sink png:level=6``.
    Several: side by side; a name offered twice is written ``plugin:name``. A run has all that are asked for.
    Example, ``--sink ranges``:

        from contextlib import contextmanager

        import surgery

        @contextmanager
        def ranges(folder):
            rows = {}

            def write(activation):
                facts = activation.facts
                rows.setdefault(activation.image, []).append(f"{activation.path},{facts.min},{facts.max}")

            def finished(image):
                if image in rows:
                    with folder.file(f"{folder.place(image)}/ranges.csv") as path:
                        path.write_text("\n".join(rows.pop(image)))

            folder.when_finished(finished)
            folder.when_dropped(lambda image: rows.pop(image, None))
            yield write

        @surgery.hookimpl
        def surgery_sinks():
            return {"ranges": ranges}
    """


@hookspec
def surgery_models() -> Mapping[str, ModelFactory | ModelFamily]:  # type: ignore[empty-body]
    """Models that can be opened by name.

    Called: once, when a model is asked for by a name, or all are listed.
    Takes: nothing.
    Returns: name -> function without arguments that returns an ``nn.Module``, or a `surgery.stages.ModelFamily` for
        models that are named ``family/name``. A model may carry a `surgery.stages.Preprocessing` in an attribute
        ``preprocessing``, or say in ``size``, ``in_channels`` and ``multiple`` what input it takes, and in
        ``weights_from``, a text, where its weights come from. That weights are random needs not be said: it is seen
        while the model is built, with random numbers that are the same at every run.
    Several: side by side; a name offered twice is written ``plugin:name``.
    Example, ``surgery inspect tiny``:

        import surgery

        def tiny():
            import torch

            return torch.nn.Conv2d(3, 8, 3)

        @surgery.hookimpl
        def surgery_models():
            return {"tiny": tiny}
    """


@hookspec
def surgery_checkpoints() -> Mapping[str, CheckpointReader]:  # type: ignore[empty-body]
    """Networks in the weights files of other code bases.

    Called: once, when a weights file is opened that no layout of the project's own fits, or all are listed.
    Takes: nothing.
    Returns: name -> function of the file's path and its state_dict, a mapping from names to tensors of any dtype, that
        returns the network with these weights loaded, or None where it does not recognise them. Keys come without the
        prefixes of wrappers (``module.``, ``_orig_mod.``). The mapping is empty where the file holds no state_dict that
        can be read without running what is in it.
    Several: asked in the order in which ``surgery plugins`` lists them: the project's own, those that are named, those
        that are installed by name. The first that returns a network has answered, and no other is asked.
    Example, ``surgery inspect line.pth``:

        import surgery

        def line(path, state):
            if set(state) != {"slope.weight", "slope.bias"}:
                return None
            import torch

            network = torch.nn.Sequential()
            network.add_module("slope", torch.nn.Conv2d(*reversed(state["slope.weight"].shape[:2]), 1))
            network.load_state_dict(state)
            return network

        @surgery.hookimpl
        def surgery_checkpoints():
            return {"line": line}
    """


@hookspec
def surgery_readers() -> Mapping[str, Reader]:  # type: ignore[empty-body]
    """What is read from a file as a model's input.

    Called: once, when a reader is asked for by name or all are listed.
    Takes: nothing.
    Returns: name -> function of a path that returns ``(1, C, H, W)`` float, as the model takes it. With an attribute
        ``suffixes``, such as ``(".txt",)`` in lower case, the files of a folder that end so are taken. It raises
        `surgery.errors.ImageError` for a file that can't be read, which is then left out. It is called on another
        thread than the model. One with options is a frozen dataclass with ``__call__``: ``--reader tensor:key=x``.
    Several: side by side; a name offered twice is written ``plugin:name``. A run has one.
    Example, ``--reader numbers``:

        import surgery

        def numbers(path):
            import torch

            rows = [[float(number) for number in line.split()] for line in path.read_text().splitlines()]
            return torch.tensor(rows)[None, None]

        numbers.suffixes = (".txt",)

        @surgery.hookimpl
        def surgery_readers():
            return {"numbers": numbers}
    """


@hookspec
def surgery_run_started(run: RunStart) -> None:
    """A run that is about to begin.

    Called: once a run, after the model was traced and before the first input is read.
    Takes: `run`, a `surgery.output.RunStart`: the folder, the paths of the inputs, the chosen operations in order of
        execution, and ``about``, the run in words.
    Returns: nothing.
    Several: all are called. One that raises is reported in one line and not called again in that run, which goes on.
    Example, a line for each run:

        import surgery

        @surgery.hookimpl
        def surgery_run_started(run):
            print(f"{len(run.operations)} operations on {len(run.images)} inputs, into {run.folder}")
    """


@hookspec
def surgery_activation(activation: Activation) -> None:
    """An activation, as it is computed.

    Called: for each activation of each input, the input itself and the output included, after the sinks that take
        values had it, inside the model's forward.
    Takes: `activation`, a `surgery.types.Activation`: its operation, the name of its input, and ``values``, any shape
        and dtype, live: what is kept of them must be copied, and they must not be written to. Its facts and pictures
        are made when they are read.
    Returns: nothing.
    Several: all are called. One that raises is reported in one line and not called again in that run, which goes on.
    Example, a line for each NaN:

        import surgery

        @surgery.hookimpl
        def surgery_activation(activation):
            if activation.facts.nan:
                print(f"NaN in {activation.path} of {activation.image}")
    """


@hookspec
def surgery_run_finished(report: Report) -> None:
    """A run that is over.

    Called: once a run, after the manifest was written, and after Ctrl-C as well; not where the run raises.
    Takes: `report`, a `surgery.output.report.Report`: counts of inputs and files, what failed, what was found
        at each operation.
    Returns: nothing.
    Several: all are called. One that raises is reported in one line.
    Example, a line for each run:

        import surgery

        @surgery.hookimpl
        def surgery_run_finished(report):
            print(f"{report.images} inputs in {report.seconds:.1f} s")
    """
