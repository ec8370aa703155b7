"""What a model that is offered by name promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from surgery.testing.promises import Fault, said, shown
from surgery.types import ModelFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.types import ModelFactory


def model_faults(model: ModelFactory | ModelFamily) -> Iterator[Fault]:
    """Gives an ``nn.Module``; a family does so under each of its names, of which the first is tried."""
    name = ""
    if isinstance(model, ModelFamily):
        try:
            names = list(model.names())
        except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is its fault
            yield Fault(f"{said(error)} when asked for its names")
            return
        if not names:
            yield Fault("is a family without a name")
            return
        if odd := [known for known in names if not isinstance(known, str)]:
            yield Fault(f"has a name that is {shown(odd[0])}, not text")
            return
        name = names[0]
    try:
        built: object = model.build(name) if isinstance(model, ModelFamily) else model()
    except Exception as error:  # noqa: BLE001
        yield Fault(said(error), name)
        return
    if not isinstance(built, nn.Module):
        yield Fault(f"gives {shown(built)}, not a torch.nn.Module", name)
