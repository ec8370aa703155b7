from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

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


def test_an_input_keeps_containers_of_other_classes() -> None:
    pair = Pair(torch.ones(1), 2)
    assert clone_inputs(pair) is pair
    (copy,) = clone_inputs((torch.ones(1),))
    assert copy.item() == 1


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


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
