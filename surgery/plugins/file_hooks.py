"""Hooks that offer what reads and writes files: sinks, models, readers of checkpoints, readers of inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.plugins.hook_markers import hookspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import CheckpointReader, ModelFactory, ModelFamily, Reader, Sink


@hookspec
def surgery_sinks() -> Mapping[str, Sink]:  # type: ignore[empty-body]
    r"""Offer sinks: what writes the activations of a run to files.

    **Called:** at most once, when a sink is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to sinks. A sink is a `@contextmanager` function that takes the run's
    `OutputFolder` and yields a function of one `Activation`. That function is called during the model's forward.

    - `activation.values` has any shape and dtype. A later operation may write to it, so copy what you keep.
      `activation.facts`, `activation.levels` and `activation.pictures` are computed when they are first read.
    - Write each file through `folder.file(name)`: the file appears when it is complete, and the manifest lists it.
      Names are made safe: no name leads out of the folder. `folder.place(image)` is the folder of an image, and
      `surgery.file_name(text)` makes one part of a name from any text.
    - `folder.when_finished(callback)` calls back when all activations of an image have been offered.
      `folder.when_dropped(callback)` calls back when an image failed half-way: leave nothing of it.
    - The calls of one run come one after the other. Several runs may use a sink at once, each with its own folder; so
      may the writers of one run, if `deferred` and `alone` are true: each opens it for some of the images.
    - A sink that uses levels, pictures and facts but not `values` should have an attribute `deferred` that is true. It
      is then called on another thread, while the model runs on. More attributes: see `surgery.stages.Sink`.

    **Several:** all names can be used. A run uses all sinks that are requested.

    **Example**, for `surgery extract --plugin ranges.py --sink ranges`:

    ```python
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
    ```
    """


@hookspec
def surgery_models() -> Mapping[str, ModelFactory | ModelFamily]:  # type: ignore[empty-body]
    """Offer models that are built by name.

    **Called:** at most once, when a model is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to factories. A factory is a function without arguments that returns an
    `nn.Module`, or a `surgery.stages.ModelFamily`, whose models are requested as `family/name`. The module may declare
    its input: by a `surgery.stages.Preprocessing` in its attribute `preprocessing`, or by its attributes `size`,
    `in_channels` and `multiple`. It may say in a text `weights_from` where its weights come from. It need not say that
    weights are random: random numbers are seeded while it is built, and their use is noticed.

    **Several:** all names can be used.

    **Example**, for `surgery inspect tiny --plugin tiny.py`:

    ```python
    import surgery

    def tiny():
        import torch

        return torch.nn.Conv2d(3, 8, 3)

    @surgery.hookimpl
    def surgery_models():
        return {"tiny": tiny}
    ```
    """


@hookspec
def surgery_checkpoints() -> Mapping[str, CheckpointReader]:  # type: ignore[empty-body]
    """Offer checkpoint readers: functions that build a network for weights files of another code base.

    **Called:** at most once, when a weights file is opened that matches none of the project's own architectures, or
    when everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to checkpoint readers. A checkpoint reader takes the path of the file and its
    state_dict, a mapping from names to tensors of any dtype. It returns the network with these weights loaded, or None
    if it does not recognize them. Prefixes of wrappers (`module.`, `_orig_mod.`) have been removed from the keys. The
    state_dict is empty if the file has none that can be read without running code from the file.

    A reader may read such a file itself, and then return a `surgery.stages.LoadedNetwork`, which also says which of
    several networks in the file it is. Its attributes `suffixes`, `reads_parts` and `recognizes_folder` say which files
    and folders it reads, and that users can choose one of several networks: see `surgery.stages.CheckpointReader`.

    **Several:** the readers are tried in the order of `surgery plugins`: the project's, those of named plugins, those
    of installed plugins by name. The first network that is returned is used.

    **Example**, for `surgery inspect line.pth --plugin line.py`:

    ```python
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
    ```
    """


@hookspec
def surgery_readers() -> Mapping[str, Reader]:  # type: ignore[empty-body]
    """Offer readers: functions that read a file as the input of a model.

    **Called:** at most once, when a reader is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to readers. A reader takes a path and returns a tensor `(1, ...)` as the model
    takes it: floats `(1, C, H, W)` for an image, integers `(1, T)` for tokens. For a file that holds several inputs it
    returns a mapping from the names of forward's parameters to such tensors. If it can't read the file, it raises
    `surgery.errors.ImageError`, and the run continues without the file. It is called on another thread than the model,
    on several at once if a run has several readers.
    If a run's input is a folder, the reader receives the files with one of the suffixes in its attribute `suffixes`,
    such as `(".txt",)`, in lower case.

    **Several:** all names can be used. A run uses one reader.

    **Example**, for `surgery extract MODEL numbers/ --plugin numbers.py --reader numbers`:

    ```python
    import surgery

    def numbers(path):
        import torch

        rows = [[float(number) for number in line.split()] for line in path.read_text().splitlines()]
        return torch.tensor(rows)[None, None]

    numbers.suffixes = (".txt",)

    @surgery.hookimpl
    def surgery_readers():
        return {"numbers": numbers}
    ```
    """
