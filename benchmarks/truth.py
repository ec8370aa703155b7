"""Every model of the zoos: the values of `surgery` and of other tools, compared with an eager run that clones them.

    python -m benchmarks.truth [PATTERN ...] [--tool NAME ...] [--jobs N] [--out benchmarks/TRUTH.md]

With patterns, such as ``resnet*`` or ``timm``, only the models whose name or zoo matches one are examined. With several
jobs, as many models are examined at a time, each on one thread of a process. The table is written to `--out`. What is
wrong with `surgery` is printed, and the exit code is 1.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import gc
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from benchmarks.examination import examine
from benchmarks.tools import TOOLS
from benchmarks.truth_table import render_summary, render_table
from benchmarks.zoo import ZooModel, list_models

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from benchmarks.model_result import ModelResult

MODELS_PER_PROCESS = 8


def choose_models(patterns: Sequence[str]) -> list[ZooModel]:
    """Return the models whose name or zoo matches one of the patterns; all models without patterns."""
    models = list(list_models())
    if not patterns:
        return models
    return [
        model
        for model in models
        if any(
            fnmatchcase(name, pattern)
            for pattern in patterns
            for name in (model.name, model.zoo, f"{model.zoo}/{model.name}")
        )
    ]


def examine_models(models: Sequence[ZooModel], tools: Collection[str], jobs: int = 1) -> Iterator[ModelResult]:
    """Yield the result of each model, in order. With several jobs, as many processes examine a few models each.

    The processes run this command, since torchlens fails in the processes of `multiprocessing`.
    """
    if jobs == 1:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        for model in models:
            gc.collect()
            yield examine(model, tools)
        return
    parts = [models[start : start + MODELS_PER_PROCESS] for start in range(0, len(models), MODELS_PER_PROCESS)]
    with ThreadPoolExecutor(jobs) as pool:
        for results in pool.map(partial(_examine_in_process, tools=tools), parts):
            yield from results


def _examine_in_process(models: Sequence[ZooModel], tools: Collection[str]) -> list[ModelResult]:
    """Return the results of models; none when the process was killed, as it may be for its memory."""
    options = [f"--tool={tool}" for tool in tools]
    with TemporaryDirectory() as folder:
        pickled = Path(folder) / "results"
        command = [sys.executable, "-c", "from benchmarks.truth import main; main()", *options, f"--pickle={pickled}"]
        subprocess.run([*command, *(f"{model.zoo}/{model.name}" for model in models)], check=False)
        results: list[ModelResult] = pickle.loads(pickled.read_bytes()) if pickled.exists() else []  # noqa: S301
    return results


def main() -> int:
    """Examine the models, write the table, and return how many of them have a fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--tool", action="append", choices=list(TOOLS), help="one of the tools alone; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many models at a time")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("TRUTH.md"))
    parser.add_argument("--pickle", type=Path, help=argparse.SUPPRESS)  # given to the processes of several jobs
    options = parser.parse_args()
    models = choose_models(options.patterns)
    skipped = [f"{model.zoo} {model.name}: {model.missing_package}" for model in models if model.missing_package]
    available = [model for model in models if not model.missing_package]
    results: list[ModelResult] = []
    for result in examine_models(available, options.tool or tuple(TOOLS), options.jobs):
        results.append(result)
        if options.jobs == 1:
            state = result.refusal or "; ".join(result.differences) or "right"
            print(f"{result.seconds:6.1f} s  {result.zoo} {result.name}: {state}", file=sys.stderr, flush=True)
    if options.pickle:
        options.pickle.write_bytes(pickle.dumps(results))
        return 0
    done = {(result.zoo, result.name) for result in results}
    skipped += [f"{m.zoo} {m.name}: its process was killed" for m in available if (m.zoo, m.name) not in done]
    tools = [f"--tool '{tool}'" for tool in options.tool or ()]
    jobs = [f"--jobs {options.jobs}"] if options.jobs > 1 else []
    table = render_table(results, skipped, [*options.patterns, *tools, *jobs])
    options.out.write_text(table, encoding="utf-8")
    print(render_summary(results))
    faulty = [result for result in results if result.is_bad]
    for result in faulty:
        print(f"{result.zoo} {result.name}: {'; '.join(result.differences) or result.refusal or 'touched'}")
    return len(faulty)


if __name__ == "__main__":
    sys.exit(main() > 0)
