"""The tracer of models: torch.fx's, and what it would lose or freeze recorded as well, or at least noticed."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from surgery import contexts, inplace
from surgery.graphs import InPlaceProxy, InPlaceTracer
from surgery.hazards import Hazard
from surgery.sources import is_users, shown, user_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOLDER = "model"
"""What a model is called in the module that holds it while it is traced."""

FACTORIES: set[Callable[..., Any]] = {*filter(None, _device_constructors()), torch.normal}
"""Functions that make a tensor out of none."""


class ModelTracer(InPlaceTracer):
    """Traces a holder of a model, so that the model itself is called, with its hooks."""

    def __init__(
        self,
        names: Sequence[str],
        leaves: Sequence[object],
        *,
        factories: bool,
        buffers: bool,
    ) -> None:
        super().__init__()
        self.names = names
        self.leaves = leaves
        self.leaves_used: set[object] = set()
        self.traced_into: set[str] = set()
        self.factories = factories
        self.proxy_buffer_attributes = buffers
        self.hazards: list[Hazard] = []

    def run(self, holder: nn.Module) -> fx.Graph:
        """Trace it. Random generators of torch are put back; what was noticed is in `hazards`."""
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(_recorded_contexts(self))
            stack.enter_context(_recorded_factories(self))
            stack.enter_context(_buffers_in_place(self))
            stack.enter_context(_Calls(self))
            return self.trace(holder)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:  # noqa: ARG002
        values = [self.create_proxy("placeholder", name, (), {}) for name in self.names]

        def call(root: nn.Module, *values: Any) -> Any:
            return root.get_submodule(HOLDER)(*values)

        return call, [self.root, *values]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        path = module_qualified_name.removeprefix(HOLDER).removeprefix(".")
        leaf = next((leaf for leaf in self.leaves if path and _is_leaf(leaf, m, path)), None)
        if leaf is not None:
            self.leaves_used.add(leaf)
            return True
        whole = bool(path) and super().is_leaf_module(m, module_qualified_name)
        if not whole:
            self.traced_into.add(path)
        return whole

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["surgery_source"] = user_line(sys._getframe(1))  # noqa: SLF001
        return node

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ModelProxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        self._refusing("a branch on a value")
        return super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Any:
        found = super().iter(obj)
        self._refusing("a loop over a tensor")
        return found

    def is_tensor(self, node: fx.Node) -> bool:
        """Whether what a node gives is known to be one tensor."""
        if node.op in ("placeholder", "get_attr") or node.target in FACTORIES:
            return True
        if node.op == "call_module":
            module = self.root.get_submodule(str(node.target))
            several = isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) or getattr(
                module, "return_indices", False
            )
            return type(module).__module__.startswith("torch.nn") and not several
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        home = "torch" if node.op == "call_method" else getattr(node.target, "__module__", None) or "torch"
        if name.strip("_") in _NOT_ONE_TENSOR or home.partition(".")[0] not in ("torch", "_operator", "surgery"):
            return False
        return any(self.is_tensor(argument) for argument in node.all_input_nodes)

    def note(self, kind: Any, what: str, remedy: str, *, changes: bool = True) -> None:
        source = shown(user_line(sys._getframe(1)))  # noqa: SLF001
        self.hazards.append(Hazard(kind, source, what, remedy, changes))

    def _refusing(self, what: str) -> None:
        """Tracing is about to end here. If it goes on, somebody has hidden the error."""
        self.note("swallowed", f"{what} in a `try` that hides that it can't be traced", "take the `try` away")


class ModelProxy(InPlaceProxy):
    """A proxy that says it is a tensor where the model asks and it is known to be one."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        frame = sys._getframe(1)  # noqa: SLF001
        if not is_users(frame.f_code.co_filename):
            return type(self)
        tracer: Any = self.tracer
        if tracer.is_tensor(self.node):
            return Tensor
        tracer.note(
            "isinstance",
            f"the type of {self.node.name}, not known while tracing, is asked for, and one branch is taken",
            "keep the module around it whole with leaves=[...]",
        )
        return type(self)


_NOT_ONE_TENSOR = {
    *("split", "chunk", "unbind", "topk", "sort", "max", "min", "median", "mode", "kthvalue", "cummax", "cummin"),
    *("aminmax", "svd", "qr", "eigh", "eig", "slogdet", "lu", "getitem", "getattr", "size", "dim", "ndimension"),
    *("numel", "stride", "item", "tolist", "unique", "meshgrid", "broadcast_tensors", "tensor_split", "hsplit"),
    *("vsplit", "dsplit", "nonzero", "frexp", "std_mean", "var_mean", "is_floating_point", "is_complex", "data_ptr"),
    *("type", "multi_head_attention_forward"),
}
"""Names of functions and methods that give several tensors, or none, or may do so."""


class _Calls(TorchFunctionMode):
    """Sees the functions of torch that are called while a model is traced, those without a proxy too."""

    def __init__(self, tracer: ModelTracer) -> None:
        super().__init__()
        self.tracer = tracer
        self.blocks: list[fx.Proxy] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:  # noqa: SLF001
            self.block(*args)
            return func(*args, **kwargs)
        if self.tracer.factories and func in FACTORIES:
            # Made anew in each run, as the model makes it: random numbers are drawn, and nothing is kept between runs.
            return self.tracer.create_proxy("call_function", func, args, kwargs)
        before = torch.random.get_rng_state()
        value = func(*args, **kwargs)
        if not isinstance(value, fx.Proxy) and not torch.equal(before, torch.random.get_rng_state()):
            self.tracer.note(
                "random",
                f"random numbers are drawn by {getattr(func, '__name__', func)} and used as plain numbers, and a graph "
                "keeps those that were drawn while tracing",
                "keep the module around it whole with leaves=[...]",
            )
        return value

    def block(self, enabled: bool) -> None:
        """The beginning or the end of a block without or with gradients."""
        frame = sys._getframe(2)  # noqa: SLF001
        ending = False
        while frame.f_back is not None and frame.f_code.co_filename.endswith("grad_mode.py"):
            ending = ending or frame.f_code.co_name == "__exit__"
            frame = frame.f_back
        if not ending:
            self.blocks.append(self.tracer.create_proxy("call_function", contexts.enter_grad, (enabled,), {}))
        elif self.blocks:
            self.tracer.create_proxy("call_function", contexts.leave, (self.blocks.pop(),), {})


@contextmanager
def _recorded_contexts(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, autocast and inference mode are recorded where the model enters and leaves them."""
    entered: dict[int, fx.Proxy] = {}

    def recording(owner: Any, enter: Callable[[Any], fx.Proxy]) -> Callable[[], None]:
        before = owner.__enter__, owner.__exit__

        def entering(self: Any) -> Any:
            entered[id(self)] = enter(self)
            return before[0](self)

        def leaving(self: Any, *error: Any) -> Any:
            if (block := entered.pop(id(self), None)) is not None:
                tracer.create_proxy("call_function", contexts.leave, (block,), {})
            return before[1](self, *error)

        owner.__enter__, owner.__exit__ = entering, leaving

        def restore() -> None:
            owner.__enter__, owner.__exit__ = before

        return restore

    def autocast(block: Any) -> fx.Proxy:
        settings = (block.device, block.fast_dtype, block._enabled, block._cache_enabled)  # noqa: SLF001
        return tracer.create_proxy("call_function", contexts.enter_autocast, settings, {})

    def inference(block: Any) -> fx.Proxy:
        return tracer.create_proxy("call_function", contexts.enter_inference, (block.mode,), {})

    with ExitStack() as stack:
        stack.callback(recording(torch.autocast, autocast))
        stack.callback(recording(torch.inference_mode, inference))
        yield


@contextmanager
def _recorded_factories(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, torch's factories take proxies (``torch.zeros(3, device=x.device)``), which C code refuses."""
    patched = {f.__name__: f for f in FACTORIES if getattr(torch, f.__name__, None) is f}

    def recording(factory: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            if tracer.factories:
                return tracer.create_proxy("call_function", factory, args, kwargs)
            return factory(*args, **kwargs)

        return make

    try:
        for name, factory in patched.items():
            setattr(torch, name, recording(factory))
        yield
    finally:
        for name, factory in patched.items():
            setattr(torch, name, factory)


@contextmanager
def _buffers_in_place(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, ``self.calls += 1`` on a buffer is what it is: a write in place, and no new buffer."""
    before = nn.Module.__setattr__

    def set_attribute(self: nn.Module, name: str, value: Any) -> None:
        if type(value) is ModelProxy and name in self._buffers and value.node.target in inplace.AUGMENTED:
            written = value.node.args[0]
            if isinstance(written, fx.Node) and written.op == "get_attr":
                home, _, attribute = str(written.target).rpartition(".")
                if tracer.root.get_submodule(home) is self and attribute == name:
                    return
        before(self, name, value)

    nn.Module.__setattr__ = set_attribute  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__setattr__ = before  # type: ignore[method-assign]


def _is_leaf(leaf: object, module: nn.Module, path: str) -> bool:
    if isinstance(leaf, str):
        return fnmatchcase(path, leaf) or type(module).__name__ == leaf
    return isinstance(leaf, type) and isinstance(module, leaf)
