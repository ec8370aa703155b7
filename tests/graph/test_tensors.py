from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from surgery.graph.containers import find_instances
from surgery.graph.tensors import clone_inputs, clone_tensors, named_tensors


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class Output:
    hidden: Tensor
    size: int = 3


def test_the_tensors_of_a_nested_value_have_keys_in_order() -> None:
    one, two, three = torch.ones(1), torch.zeros(2), torch.arange(3)
    value = (one, {"a": [two, 5], "caf\udce9": None}, Output(three))
    assert [(key, id(tensor)) for key, tensor in named_tensors(value)] == [
        ("[0]", id(one)),
        ("[1][a][0]", id(two)),
        ("[2][hidden]", id(three)),
    ]
    assert [key for key, _ in named_tensors({"caf\udce9": one})] == ["[caf\\xe9]"]
    assert [key for key, _ in named_tensors(one)] == [""]
    assert list(named_tensors("text")) == []


def test_cloned_values_share_no_memory_and_have_plain_containers() -> None:
    value: Any = Pair(torch.ones(1), OrderedDict(a=[torch.ones(1)]))
    for clone, containers in ((clone_tensors(value), (tuple, dict)), (clone_inputs([torch.ones(1), {}]), (list, dict))):
        assert (type(clone), type(clone[1])) == containers
    clone = clone_tensors(value)
    clone[0].zero_()
    clone[1]["a"][0].zero_()
    assert value[0].item() == value[1]["a"][0].item() == 1


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


def test_the_tensors_in_the_attributes_of_an_object_are_found_once_each() -> None:
    one, two = torch.ones(1), torch.zeros(2)
    layer = Holder({"keys": one, "values": two})
    cache = Holder([layer, layer, 3, nn.Linear(1, 1)])
    layer.cache = cache  # type: ignore[attr-defined]
    assert [(key, id(tensor)) for key, tensor in named_tensors({"cache": cache, "last": deque([one])})] == [
        ("[cache][held][0][held][keys]", id(one)),
        ("[cache][held][0][held][values]", id(two)),
        ("[last][0]", id(one)),
    ]
    assert list(named_tensors([torch.Generator(), nn.Linear(1, 1), Holder, len])) == []


def test_a_dataclass_without_a_value_for_a_field_is_searched() -> None:
    output = Output(torch.ones(1))
    del output.hidden
    assert list(named_tensors(output)) == []


def test_an_input_of_any_class_is_copied_without_its_modules() -> None:
    tensor, module = torch.ones(1), nn.Linear(1, 1)
    given = [tensor, Pair(tensor, 2), Holder([tensor, module]), OrderedDict(a=tensor), Output(tensor), Holder([])]
    clones = clone_inputs(given)
    found = [each for _, each in named_tensors(clones)]
    assert len(found) == 5
    assert all(each is found[0] is not tensor for each in found)
    assert [type(clone) for clone in clones] == [type(value) for value in given]
    assert clones[2].held[1] is module
    clones[5].held.append(1)
    assert given[5].held == []  # type: ignore[attr-defined]


def test_a_random_generator_is_cloned_with_its_state() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = clone_inputs([generator, generator])
    assert first is second is not generator
    drawn = torch.rand(2, generator=first)
    assert torch.equal(drawn, torch.rand(2, generator=generator))


class Single:
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise RuntimeError("there is one of me")


def test_an_input_that_can_not_be_copied_stays() -> None:
    single = Single()
    assert clone_inputs([single])[0] is single
    tensor = torch.ones(1, requires_grad=True) * 2
    assert clone_inputs(Holder(tensor)).held.grad_fn is not None


def test_instances_are_found_once_in_containers_and_objects_to_a_depth_of_8() -> None:
    tensor = torch.ones(1)
    cycle: list[Any] = [tensor, {"again": tensor, tensor: None}]
    cycle.append(cycle)
    assert list(find_instances(cycle)) == [tensor]
    assert list(find_instances(Holder([tensor]))) == [tensor]
    deep: Any = tensor
    for _ in range(8):
        deep = [deep]
    assert list(find_instances(deep)) == [tensor]
    assert list(find_instances([deep])) == []
    assert list(find_instances((1, "a", [2]), int)) in ([1, 2], [2, 1])
