"""Hooks that are called during a run: at its start, for each activation, at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.plugins.hook_markers import hookspec

if TYPE_CHECKING:
    from surgery.output import Report, RunStart
    from surgery.types import Activation


@hookspec
def surgery_run_started(run: RunStart) -> None:
    """Follow the start of a run.

    **Called:** once a run, after the model was traced and before the first input is read.

    **Takes:** `run`, a `surgery.output.RunStart`: the output folder, the paths of the inputs, the selected operations
    in order of execution, and `about`, a description of the run.

    **Returns:** nothing.

    **Several:** all implementations are called. One that raises is reported in one line and is not called again in that
    run; the run continues.

    **Example**, which prints one line for each run:

    ```python
    import surgery

    @surgery.hookimpl
    def surgery_run_started(run):
        print(f"operations: {len(run.operations)}, inputs: {len(run.images)}, folder: {run.folder}")
    ```
    """


@hookspec
def surgery_activation(activation: Activation) -> None:
    """Follow the activations of a run.

    **Called:** for each activation of each input, including the input itself and the output. The call is made during
    the model's forward, after the sinks that use values.

    **Takes:** `activation`, a `surgery.types.Activation`: its operation, the name of its input, and `values` of any
    shape and dtype. `values` share memory with the running model: do not write to them, and copy what you keep.
    `activation.facts`, `activation.levels` and `activation.pictures` are computed when they are first read.

    **Returns:** nothing.

    **Several:** all implementations are called. One that raises is reported in one line and is not called again in that
    run; the run continues.

    **Example**, which prints one line for each activation with NaN:

    ```python
    import surgery

    @surgery.hookimpl
    def surgery_activation(activation):
        if activation.facts.nan:
            print(f"NaN in {activation.path} of {activation.image}")
    ```
    """


@hookspec
def surgery_run_finished(report: Report) -> None:
    """Follow the end of a run.

    **Called:** once a run, after the manifest was written, also if the run was interrupted by Ctrl-C. It is not called
    if the run raises an error.

    **Takes:** `report`, a `surgery.output.Report`: the numbers of inputs and files, the inputs that failed, and a
    summary of each operation.

    **Returns:** nothing.

    **Several:** all implementations are called. One that raises is reported in one line.

    **Example**, which prints one line for each run:

    ```python
    import surgery

    @surgery.hookimpl
    def surgery_run_finished(report):
        print(f"inputs: {report.images}, seconds: {report.seconds:.1f}")
    ```
    """
