"""Every model of the zoos: what ours computes, beside what other tools give, against an eager run that clones.

    python -m benchmarks.truth [PATTERN ...] [--tool NAME ...] [--jobs N] [--out benchmarks/TRUTH.md]

With patterns, such as ``resnet*`` or ``timm``, only the models whose name or zoo matches one. With several jobs, as
many models at a time, each on one thread of a process. The table is written to `--out`; what is wrong with ours is
printed, and is the exit code.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import gc
import pickle
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

import surgery
from benchmarks.peers import PEERS, Given, ask, truth_of
from benchmarks.zoo import Entry, entries
from surgery.eager.oracle import compare_values_with_eager, insert_everywhere
from surgery.errors import TraceError
from surgery.graph.bitwise import bitwise_equal
from surgery.graph.copies import copy_sharing_parameters
from surgery.graph.hazard_kinds import hazards
from surgery.graph.tensors import clone_inputs, named_tensors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from torch import nn

    from surgery.verification.certificate import Certificate, Comparison


@dataclass(frozen=True, slots=True)
class Row:
    """What was found of one model."""

    zoo: str
    name: str
    shape: tuple[int, ...]
    plain: str
    """What `torch.fx.symbolic_trace` does with it: ``right``, ``wrong`` or ``refuses``."""
    refusal: str = ""
    """Why ours refuses it."""
    notes: tuple[str, ...] = ()
    """What ours noticed while tracing."""
    operations: int = 0
    values: int = 0
    """Tensors that were compared with the eager run's, in all cases."""
    wrong: int = 0
    """How many of them are not the eager run's."""
    batches: int = 0
    """Sizes of batches on which the output is the original's, in eval mode."""
    sizes: int = 0
    """Sizes of images likewise."""
    train: bool = False
    """Whether output, values, buffers, random numbers and gradients are the original's in train mode too."""
    differences: tuple[str, ...] = ()
    """Each comparison that differs."""
    unsure: tuple[str, ...] = ()
    """Each comparison in which the original differs from itself."""
    untouched: bool = True
    """Whether the original is as it was, with its parameters, buffers, modes, attributes and hooks."""
    peers: dict[str, Given] = field(default_factory=dict)
    seconds: float = 0.0
    """Of CPU, with those of the tools."""


def examine(entry: Entry, tools: Collection[str]) -> Row:
    """Trace a model, open it everywhere, hold it against the original in both modes, and ask other tools too."""
    begun = time.process_time()
    model = entry.model()
    inputs = entry.inputs(1)
    plain, before = _plain(model, inputs), _marks(model)
    head: dict[str, Any] = {"zoo": entry.zoo, "name": entry.name, "shape": entry.shape, "plain": plain}
    try:
        traced = surgery.trace(model, inputs)
    except TraceError as error:
        found: dict[str, Any] = {"refusal": str(error)}
    else:
        opened = surgery.insert(traced, surgery.operations(traced))
        evaluated = surgery.certify(model, opened, *inputs, modes=["eval"])
        trained = surgery.certify(model, opened, *entry.inputs(2), modes=["train"], others=False)
        found = _summed(evaluated, trained)
        found["wrong"] = _wrong(model, opened, inputs, [*evaluated.comparisons, *trained.comparisons])
        found["notes"] = tuple(map(str, hazards(traced)))
        del traced, opened
    found["untouched"] = found.get("untouched", True) and _marks(model) == before
    peers: dict[str, Given] = {}
    if tools:
        with torch.no_grad():
            truth = truth_of(model, inputs)
        peers = {tool: ask(tool, model, inputs, truth) for tool in tools}
    return Row(**head, **found, peers=peers, seconds=time.process_time() - begun)


def _marks(model: nn.Module) -> list[object]:
    """All of a model that could be touched, tensors as what they are and their sum."""
    found: list[object] = []
    for path, module in model.named_modules():
        hooks = [(name, tuple(value)) for name, value in vars(module).items() if name.endswith("_hooks")]
        found.append((path, module.training, tuple(vars(module)), hooks))
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        found.append((name, id(value), value._version, value.requires_grad, repr(value.detach().double().sum())))  # noqa: SLF001
    return found


def _plain(model: nn.Module, inputs: Sequence[Any]) -> str:
    """What torch.fx alone does."""
    model = copy_sharing_parameters(model)
    try:
        traced = fx.symbolic_trace(model)
    except Exception:  # noqa: BLE001 - whatever it raises
        return "refuses"
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        truth = named_tensors(model(*map(clone_inputs, inputs)))
        torch.manual_seed(0)
        try:
            ours = named_tensors(traced(*map(clone_inputs, inputs)))
            same = all(bitwise_equal(one, other) for (_, one), (_, other) in zip(truth, ours, strict=True))
        except Exception:  # noqa: BLE001
            same = False
    return "right" if same else "wrong"


def _summed(evaluated: Certificate, trained: Certificate) -> dict[str, Any]:
    """Two certificates in a line."""
    both = (*evaluated.comparisons, *trained.comparisons)
    cases = {c.case for c in evaluated.comparisons if c.what == "output" and c.same}
    said = {c: f"{c.what} ({c.mode} {c.case}): {c.difference}" for c in both}
    return {
        "operations": evaluated.operations,
        "values": sum(c.count for c in both if c.what == "values"),
        "batches": sum(case == "example" or case.startswith("batch") for case in cases),
        "sizes": sum(case == "example" or "x" in case.removeprefix("example") for case in cases),
        "train": trained.same and any(c.what == "output" and c.same for c in trained.comparisons),
        "differences": tuple(said[c] for c in both if c.same is False),
        "unsure": tuple(said[c] for c in both if c.same is None and c.difference),
        "untouched": all(c.same for c in both if c.what == "the original"),
    }


def _wrong(model: nn.Module, opened: fx.GraphModule, inputs: Sequence[Any], comparisons: Sequence[Comparison]) -> int:
    """How many values differ, where a certificate, which names the first, says that some do."""
    cases = [c for c in comparisons if c.what == "values" and c.same is False]
    if not cases:
        return 0
    _, others = compare_values_with_eager(model, insert_everywhere(opened, training=False), inputs, False, seed=0)
    return max(len(others), len(cases))


def chosen(patterns: Sequence[str]) -> list[Entry]:
    """The entries whose name or zoo matches a pattern; all, without one."""
    every = list(entries())
    if not patterns:
        return every
    return [
        e for e in every if any(fnmatchcase(name, p) for p in patterns for name in (e.name, e.zoo, f"{e.zoo}/{e.name}"))
    ]


def examined(some: Sequence[Entry], tools: Collection[str], jobs: int = 1) -> Iterator[Row]:
    """A row for each entry, in their order, as they come; with several jobs, from as many processes.

    The processes are this very command for a few models each: torchlens takes none of `multiprocessing`'s.
    """
    if jobs == 1:
        _alone()
        yield from (_examined(entry, tools) for entry in some)
        return
    parts = [some[start : start + 8] for start in range(0, len(some), 8)]
    with ThreadPoolExecutor(jobs) as pool:
        for rows in pool.map(partial(_examined_elsewhere, tools=tools), parts):
            yield from rows


def _examined_elsewhere(some: Sequence[Entry], tools: Collection[str]) -> list[Row]:
    asked = [f"--tool={tool}" for tool in tools]
    with TemporaryDirectory() as folder:
        pickled = Path(folder) / "rows"
        command = [sys.executable, "-c", "from benchmarks.truth import main; main()", *asked, f"--pickle={pickled}"]
        subprocess.run([*command, *(f"{e.zoo}/{e.name}" for e in some)], check=False)
        # A process that was killed, for the memory that it took, leaves none.
        rows: list[Row] = pickle.loads(pickled.read_bytes()) if pickled.exists() else []  # noqa: S301 - our own
    return rows


def _alone() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def _examined(entry: Entry, tools: Collection[str]) -> Row:
    gc.collect()
    return examine(entry, tools)


def main() -> int:
    """Examine, write the table, and return how many models are not as they should be."""
    from benchmarks.table import summary, written

    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--tool", action="append", choices=list(PEERS), help="one of the tools alone; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many models at a time")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("TRUTH.md"))
    parser.add_argument("--pickle", type=Path, help=argparse.SUPPRESS)  # for a process of several
    options = parser.parse_args()
    every = chosen(options.patterns)
    skipped = [f"{entry.zoo} {entry.name}: {entry.missing}" for entry in every if entry.missing]
    rows: list[Row] = []
    there = [entry for entry in every if not entry.missing]
    for row in examined(there, options.tool or tuple(PEERS), options.jobs):
        rows.append(row)
        if options.jobs == 1:
            state = row.refusal or "; ".join(row.differences) or "as it is"
            print(f"{row.seconds:6.1f} s  {row.zoo} {row.name}: {state}", file=sys.stderr, flush=True)
    if options.pickle:
        options.pickle.write_bytes(pickle.dumps(rows))
        return 0
    done = {(row.zoo, row.name) for row in rows}
    skipped += [f"{e.zoo} {e.name}: its process was killed" for e in there if (e.zoo, e.name) not in done]
    tools = [f"--tool '{tool}'" for tool in options.tool or ()]
    jobs = [f"--jobs {options.jobs}"] if options.jobs > 1 else []
    options.out.write_text(written(rows, skipped, [*options.patterns, *tools, *jobs]), encoding="utf-8")
    print(summary(rows))
    bad = [row for row in rows if is_bad(row)]
    for row in bad:
        print(f"{row.zoo} {row.name}: {'; '.join(row.differences) or row.refusal or 'touched'}")
    return len(bad)


def is_bad(row: Row) -> bool:
    """Whether a model is refused that torch.fx alone takes and gets right, or anything differs, or it was touched."""
    return bool(row.differences) or not row.untouched or bool(row.refusal and row.plain == "right")


if __name__ == "__main__":
    sys.exit(main() > 0)
