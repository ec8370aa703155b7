"""Calls of the public functions with odd arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import nn

import surgery
from tests.fuzz.campaign import Misuse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random


def call_public_function(random: Random, known: Any, texts: Sequence[str]) -> object:
    """Call one of the public functions with one or two odd arguments.

    Raises Misuse for a TypeError, which is a right answer to a value of an undocumented type.
    """
    Image.new("RGB", (8, 8)).save("a.png")
    text = random.choice(texts)
    selection = random.choice(("*", "conv", "op:conv2d", text, surgery.path("conv"), surgery.op(text)))
    tensor = random.choice(
        (
            known.image,
            torch.zeros(1, 3, 3, 3),
            torch.zeros(0, 3, 8, 8),
            torch.zeros(1, 4, 8, 8),
            torch.zeros(1, 3, 1, 1),
            torch.zeros(3),
            torch.zeros(1, 3, 8, 8, dtype=torch.int64),
            torch.full((1, 3, 8, 8), float("nan")),
            torch.zeros(1, 3, 8, 8, dtype=torch.float64),
            torch.empty(1, 3, 8, 8, device="meta"),
        )
    )
    # Inputs that the model takes: an error of its own forward would not be one of the project.
    taken = random.choice((known.image, torch.zeros(2, 3, 3, 5), torch.full((1, 3, 8, 8), float("nan"))))
    model = random.choice((known.model, known.model, nn.Sequential(), nn.Identity(), nn.ModuleList(), nn.Linear(3, 3)))
    graph = random.choice((known.traced, known.opened))
    number = random.choice((0, 1, -1, 3, 2**70, -(2**70)))
    settings = {
        "size": random.choice((None, "native", 8, (8, 8), number, text)),
        "side": random.choice(("none", "left", text)),
        "range": random.choice((None, (-1.0, 1.0), (1.0, 1.0), (float("nan"), 0.0))),
        "batch_size": random.choice((1, 2, number)),
        "device": random.choice(("cpu", "meta", "nonsense", text)),
        "mode": random.choice(("eval", "train", "as-is", text)),
        "seed": number,
        "gradients": random.choice((None, "output", "channel=0", text)),
        "grad_cam": random.choice((True, False)),
        "jobs": random.choice((1, 0, -1)),
        "stats": random.choice((True, False)),
        "check": random.choice((True, False)),
        "output": random.choice((True, False)),
        "leaves": random.choice(((), ("conv",), (text,), (nn.Conv2d,))),
        "allow": random.choice(((), ("state",), (text,))),
        "source": random.choice((None, text)),
        "sinks": (),
    }
    chosen = {name: settings[name] for name in random.sample(list(settings), 2)}
    image = random.choice(("a.png", text, Path("a.png"), Path("gone.png")))
    odd: Any = random.choice((None, 5, text, b"x", [], {}, object(), model, graph, tensor))
    calls: dict[str, Any] = {
        "as_outputs": lambda: surgery.as_outputs(graph),
        "certify": lambda: surgery.certify(known.model, graph, taken),
        "cut": lambda: surgery.cut(graph, **{random.choice(("after", "until")): random.choice((selection, odd))}),
        "draw": lambda: surgery.draw(random.choice((tensor, torch.rand(1, 5, 4, 4)))),
        "extract": lambda: surgery.extract(model, image, at=selection, out="out", **chosen),
        "insert": lambda: surgery.insert(graph, surgery.select(graph, selection)),
        "inside": lambda: surgery.select(graph, surgery.inside(text)),
        "load_image": lambda: surgery.load_image(image, size=settings["size"], side=settings["side"]),
        "load_model": lambda: surgery.load_model(random.choice((text, Path("a.png"), odd)), seed=number),
        "op": lambda: surgery.select(graph, ~surgery.op(text) | surgery.path(text)),
        "operations": lambda: surgery.operations(graph),
        "path": lambda: surgery.select(graph, surgery.path(text) & surgery.path("*")),
        "replace": lambda: surgery.replace(graph, selection, random.choice((nn.Identity(), known.model, odd))),
        "grad_cam": lambda: surgery.grad_cam(
            random.choice(surgery.record(known.opened, taken, gradients=random.choice((None, "output"))))
        ),
        "maximize": lambda: surgery.maximize(
            graph,
            selection,
            random.choice((0, "0-1", None, number, text)),
            top=random.choice((None, 1, number)),
            image=random.choice((None, taken, tensor, odd)),
            size=settings["size"],
            region=random.choice((None, (0.2, 0.2, 0.5, 0.5), (0, 0, number, 1))),
            limits=random.choice((None, settings["range"])),
            steps=random.choice((1, 2, -1)),
        ),
        "ablate": lambda: surgery.ablate(
            model,
            random.choice((tensor, image)),
            at=selection,
            each=random.choice(("operation", "module", "channel", "group:2", "all", text)),
            edit=random.choice(("zero", "mean", text, odd)),
            within=random.choice((None, None, torch.ones(4, 4), tensor, odd)),
            top=random.choice((0, 2, number)),
            batch=random.choice((1, 3, number)),
        ),
        "patch": lambda: surgery.patch(
            model, random.choice((taken, tensor, image)), random.choice((taken, tensor, odd)), at=selection
        ),
        "diagnose": lambda: surgery.diagnose(
            model,
            random.choice((taken, tensor, image)),
            at=selection,
            measures=random.choice(("dead", ["noise", "equivariance"], [text], odd, lambda maps: odd)),
            thresholds=random.choice(({}, {"dead": number}, {text: 1.0}, {"noise": odd})),
        ),
        "record": lambda: surgery.record(graph, taken, gradients=random.choice((None, "output", "pixel=0,0", text))),
        "select": lambda: surgery.select(graph, selection),
        "show": lambda: surgery.show(graph),
        "trace": lambda: surgery.trace(model, *random.choice(((), (tensor,))), leaves=settings["leaves"]),
    }
    name = random.choice(sorted(calls))
    if random.random() < 0.2:
        function = getattr(surgery, name)
        calls[name] = lambda: function(
            *random.choice(((odd,), (odd, odd), (graph, odd), (model, odd), (model, "a.png")))
        )
    try:
        return calls[name]()
    except TypeError as error:
        raise Misuse(str(error) or "TypeError") from error
