"""Each trap of `tests/traps` gives the right values everywhere, or is refused with its line."""

from __future__ import annotations

import builtins
import copy
import importlib
import inspect
import io
import pkgutil
import random
import sys
import threading
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.eager import UNOBSERVABLE_KINDS, user_code
from surgery.errors import TraceError
from surgery.graph import contexts
from surgery.graph.bitwise import bitwise_equal
from surgery.graph.containers import find_instances
from surgery.graph.copies import copy_sharing_parameters
from surgery.graph.tensors import clone_inputs
from surgery.graph.trace_info import hazards
from surgery.graph.traced_module import TracedModule
from surgery.verification.model_state import compare_state, model_state
from tests import traps
from tests.nets import Oracle
from tests.rewriting.two_parts import cut_in_two
from tests.traps import TRAPS, Trap
from tests.verification.test_laws import same

for _module in pkgutil.iter_modules(traps.__path__):
    importlib.import_module(f"tests.traps.{_module.name}")

KEPT = [trap for trap in TRAPS if not trap.refused]
REFUSED = [trap for trap in TRAPS if trap.refused]

pytestmark = [
    # What torch says of its own old functions, which some traps are about.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def name(trap: Trap) -> str:
    return trap.name


def made(trap: Trap) -> tuple[nn.Module, tuple[Any, ...]]:
    torch.manual_seed(0)
    return trap.make().eval(), trap.inputs()


def line_of_the_mark(trap: Trap) -> str | None:
    lines, first = inspect.getsourcelines(trap.make)
    marked = [first + number for number, line in enumerate(lines) if line.rstrip().endswith("# here")]
    return f"tests/traps/{trap.make.__module__.rpartition('.')[2]}.py:{marked[0]}: " if marked else None


def test_there_are_many_traps() -> None:
    assert len(KEPT) > 120
    assert len(REFUSED) > 60
    assert len({trap.name for trap in TRAPS}) == len(TRAPS)


@pytest.fixture(autouse=True)
def names_of_traps(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The traps use no names of other modules, and each trace and each run would search thousands of them."""
    own = (f"{traps.__name__}.", request.module.__name__)
    others = {name: module for name, module in sys.modules.items() if not name.startswith(own)}
    monkeypatch.setattr(user_code, "_libraries", others)


@pytest.mark.parametrize("trap", KEPT, ids=name)
def test_a_trap_is_traced_recorded_cut_copied_and_stored_as_it_is(trap: Trap) -> None:
    model, inputs = made(trap)
    before = model_state(model)
    traced = surgery.trace(model, inputs)
    assert compare_state(model, before).same
    opened = surgery.insert(traced, surgery.operations(traced))
    certificate = surgery.certify(model, opened, *inputs)
    assert certificate.same, certificate.difference
    unsure = [comparison for comparison in certificate.comparisons if comparison.same is None and comparison.difference]
    assert not unsure
    assert not [hazard for hazard in hazards(traced) if hazard.changes_result]
    if trap.picklable:
        check_that_copies_and_files_are_the_same(model, opened, inputs)
    if isinstance(traced, TracedModule):
        check_that_it_is_the_same_when_it_is_cut_anywhere(traced, inputs)
    for training in (False, True):
        check_that_each_recorded_value_is_as_it_was_when_it_was_computed(traced.train(training), inputs)


def check_that_copies_and_files_are_the_same(model: nn.Module, opened: Any, inputs: tuple[Any, ...]) -> None:
    buffer = io.BytesIO()
    torch.save(opened, buffer)
    buffer.seek(0)
    for restored in (torch.load(buffer, weights_only=False), copy.deepcopy(opened)):
        certificate = surgery.certify(model, restored, *inputs, others=False)
        assert certificate.same, certificate.difference
        assert hazards(restored) == hazards(opened)


def check_that_it_is_the_same_when_it_is_cut_anywhere(traced: TracedModule, inputs: tuple[Any, ...]) -> None:
    torch.manual_seed(1)
    expected = list(find_instances(copy_sharing_parameters(traced)(*clone_inputs(inputs))))
    for operation in surgery.operations(traced):
        if parts := cut_in_two(traced, operation):
            torch.manual_seed(1)
            assert same(list(find_instances(parts(*clone_inputs(inputs)))), expected), operation.path


def check_that_each_recorded_value_is_as_it_was_when_it_was_computed(traced: Any, inputs: tuple[Any, ...]) -> None:
    opened = surgery.insert(traced, surgery.operations(traced))
    with torch.no_grad():
        torch.manual_seed(1)
        oracle = Oracle(copy_sharing_parameters(traced))
        with contexts.closing():
            oracle.run(*(clone_inputs(value) for value in inputs))
        torch.manual_seed(1)
        recorded = surgery.record(opened, *(clone_inputs(value) for value in inputs))
    assert len(recorded) == len(oracle.values)
    for activation, value in zip(recorded, oracle.values, strict=True):
        assert activation.operation.kind in UNOBSERVABLE_KINDS or bitwise_equal(activation.values, value), (
            f"{activation.path} in {'train' if traced.training else 'eval'} mode"
        )


@pytest.mark.parametrize("trap", REFUSED, ids=name)
def test_a_trap_that_no_graph_can_hold_is_refused_with_its_line(trap: Trap) -> None:
    model, inputs = made(trap)
    with pytest.raises(TraceError) as caught:
        surgery.trace(model, inputs, front_end="symbolic").train()  # some are a trap in train mode alone
    message = str(caught.value)
    assert trap.refused in message
    assert "\n" not in message
    if line := line_of_the_mark(trap):
        assert line in message


NOT_OBSERVED = {
    "aliasing-ExpandedWrite": "does not run: unsupported operation: more than one element of the written-to tensor",
    "library-ScriptedFunction": "ScriptedFunction can't be copied",
    "outside-stale_features_by_name": "writes to ReadsFeatures.features, which forward reads",
    "states-Lazily": "gets its parameters in the first run",
}
"""The traps that can't be observed, and a part of the message that says why."""
VARYING = {"chance-NumpysNewRandom", "lasting-WritingToAClosure", "lasting-WritingToAGlobalName"}
"""The traps that compute something else each time, whatever state they begin with."""
VARYING_WITH_THREADS = {"chance-PythonsRandom", "chance-NumpysRandom"}
"""Those whose generator is not put back while other threads run, which may draw from it too."""


@pytest.mark.parametrize("trap", [trap for trap in TRAPS if trap.name not in NOT_OBSERVED], ids=name)
def test_a_trap_is_right_when_it_is_observed(trap: Trap) -> None:
    model, inputs = made(trap)
    before = model_state(model)
    traced = surgery.trace(model, inputs, front_end="observed")
    assert compare_state(model, before).same
    opened = surgery.insert(traced, surgery.operations(traced))
    certificate = surgery.certify(model, opened, *inputs)
    assert certificate.same, certificate.difference
    unsure = {comparison.difference for comparison in certificate.comparisons if comparison.same is None}
    varies = "the original itself gives another each time it runs"
    if threading.active_count() == 1 or trap.name not in VARYING_WITH_THREADS:
        assert (varies in unsure) == (trap.name in VARYING)
    assert compare_state(model, before).same


@pytest.mark.parametrize("trap", [trap for trap in TRAPS if trap.name in NOT_OBSERVED], ids=name)
def test_a_trap_that_can_not_be_observed_is_refused_in_one_line(trap: Trap) -> None:
    model, inputs = made(trap)
    with pytest.raises(TraceError) as caught:
        surgery.trace(model, inputs, front_end="observed")
    assert NOT_OBSERVED[trap.name] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trap", [trap for trap in KEPT if trap.name.startswith("weights")], ids=name)
def test_other_weights_are_used_however_the_model_reaches_them(trap: Trap) -> None:
    model, inputs = made(trap)
    traced = surgery.trace(model, inputs)
    torch.manual_seed(1)
    other = trap.make().eval()
    traced.load_state_dict(other.state_dict())
    assert bitwise_equal(traced(*inputs), other(*inputs))
    torch.manual_seed(2)
    another = trap.make().eval()
    copied_graph = copy.deepcopy(traced)
    copied_graph.load_state_dict(another.state_dict())
    assert bitwise_equal(copied_graph(*inputs), another(*inputs))
    model.load_state_dict(other.state_dict())
    assert bitwise_equal(surgery.trace(model, inputs)(*inputs), other(*inputs))


def test_tracing_leaves_nothing_of_python_and_torch_changed() -> None:
    def look() -> list[object]:
        symbolic: Any = torch.fx._symbolic_trace
        names = {n: id(v) for n, v in vars(torch).items() if not inspect.ismodule(v)}  # some are imported when needed
        calls, own = importlib.import_module("tests.traps.states"), importlib.import_module("tests.traps.autograd")
        return [
            *(names, isinstance, type, callable, sys.gettrace(), sys.getprofile(), random.getstate()),
            *(torch.is_grad_enabled(), torch.get_default_dtype(), torch.random.get_rng_state().tolist()),
            *(symbolic.is_fx_tracing, torch.autograd.Function.apply, torch.nn.utils.parametrize.cached),
            *({n: id(v) for n, v in vars(calls).items() if n != "CALLS"}, vars(calls)["CachedMethod"].window),
            *(vars(function)["forward"] for function in (own.Square, own.Rounded)),
            *(nn.Module.__setattr__, torch.random.manual_seed, {n: id(v) for n, v in vars(builtins).items()}),
        ]

    nets = [made(trap)[0] for trap in TRAPS[::3]]
    before = look()
    for net in nets:
        try:
            surgery.trace(net)
        except TraceError:
            continue
    assert look() == before


TRAPS_THAT_KEEP_VALUES = [trap for trap in TRAPS if trap.name.startswith(("outside", "lasting-cached_in"))]


@pytest.mark.parametrize("trap", TRAPS_THAT_KEEP_VALUES, ids=name)
def test_no_proxy_is_left_outside_a_model(trap: Trap) -> None:
    outside: Any = importlib.import_module("tests.traps.outside")
    lasting: Any = importlib.import_module("tests.traps.lasting")
    model, inputs = made(trap)
    for example in (None, inputs):
        with suppress(TraceError):
            surgery.trace(model, example)
        places = [outside.GRIDS, outside.FEATURES, outside.LAST, outside.STORE.kept, outside.ClassAttribute.grids]
        places += [outside.DefaultArgument.forward.__defaults__, outside.MODELS, vars(model)]
        places += [outside.SLOTTED.grid, outside.USER_DICT.data]
        places += [vars(lasting.LOCAL), lasting.CONTEXT.get(), dict(lasting.TABLES), vars(lasting.kept_by_a_function)]
        places += [dict(lasting.WEAK), dict(lasting.WEAK_VALUES)]
        closures = [hook.__closure__ for part in model.modules() for hook in part._forward_hooks.values()]
        places += [cell.cell_contents for cells in closures for cell in cells or ()]
        assert not list(find_instances(places, torch.fx.Proxy))
    model(*inputs)


def test_a_cached_function_of_the_user_holds_no_proxies_after_tracing() -> None:
    states: Any = importlib.import_module("tests.traps.states")
    states.grid.cache_clear()
    surgery.trace(states.Cached())
    assert states.grid.cache_info().currsize == 0
    table = states.grid(8, 8)
    surgery.trace(states.Cached())
    assert states.grid(8, 8) is table
