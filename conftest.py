"""The processes that the tests run in."""

from __future__ import annotations

import gc
import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WORKERS = 8
"""A worker needs several seconds to import torch and up to 2 GB of memory: more of them would hardly be faster."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run a folder of tests in one process per core, unless the command line says otherwise with -n.

    A few files are faster without workers. Without pytest-xdist, which the distributions in plugins/ don't require,
    everything runs in one process.
    """
    folders = [argument for argument in config.args if Path(argument).is_dir()]
    if (
        not folders
        or not config.pluginmanager.hasplugin("xdist")
        or "PYTEST_XDIST_WORKER" in os.environ
        or config.option.numprocesses is not None
        or config.option.collectonly
    ):
        return
    config.option.numprocesses = "logical"
    config.option.maxprocesses = MAX_WORKERS
    config.option.dist = "loadgroup"
    # The threads of torch would compete with the other workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart() -> None:
    """Take Ctrl-C as usual, also where the tests run in the background of a shell, which has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage while the tests are imported, and let later collections pass over what was imported.

    There are millions of objects of torch and of the tests, and hardly any garbage: half of the time would be the
    collector's.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000, 10, 10)
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Give each test, and the fixtures made for it, the same random numbers in every run and in any order."""
    import numpy as np  # not above: the process that hands out the tests needs neither
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator that models in the tests use
    torch.manual_seed(0)
