"""The kinds of cases: for each, a function that prepares what its cases share and returns a function for one case."""

from __future__ import annotations

import io
from collections import OrderedDict
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from PIL import Image
from torch import nn

import surgery
from surgery.plugins.registry import Plugins
from tests.fuzz import damaged_files
from tests.fuzz.campaign import Misuse
from tests.fuzz.odd_texts import ODD, STAGES, odd_text, selection, stage
from tests.fuzz.public_calls import call_public_function
from tests.fuzz.weights_contents import content

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Case = Callable[[Random], object]


def tiny() -> nn.Module:
    """A network of three operations."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 2, 3), act=nn.ReLU(), head=nn.Conv2d(2, 1, 1)))


def _weights(kind: str) -> Case:
    whole = damaged_files.weights()[kind]
    ending = "safetensors" if kind == "safetensors" else "pth"

    def case(random: Random) -> object:
        file = Path(f"net.{ending}")
        file.write_bytes(damaged_files.damage(whole, random))
        return surgery.load_model(file, plugins=Plugins(bare=True))

    return case


def _contents() -> Case:
    def case(random: Random) -> object:
        torch.save(content(random), "net.pth", _use_new_zipfile_serialization=random.random() < 0.5)
        part = random.choice((None, None, "netG", "netD", "0", odd_text(random)))
        return surgery.load_model("net.pth", part=part, plugins=Plugins(bare=True))

    return case


def _images() -> Case:
    files = damaged_files.images()

    def case(random: Random) -> object:
        name = random.choice(list(files))
        Path(f"a.{name}").write_bytes(damaged_files.damage(files[name], random))
        size = random.choice((None, None, "native", 8, (4, 9), 0, -1))
        return surgery.load_image(f"a.{name}", size=size, side=random.choice(("none", "left", "right")))

    return case


def _tensors() -> Case:
    files = damaged_files.tensors()
    plugins = Plugins(bare=True)

    def case(random: Random) -> object:
        name = random.choice(list(files))
        Path(f"a.{name}").write_bytes(damaged_files.damage(files[name], random))
        key = random.choice(("", ":key=x", ":key=y", f":key={odd_text(random)}"))
        return plugins.resolve("reader", f"tensor{key}")(Path(f"a.{name}"))

    return case


def _selections() -> Case:
    traced = surgery.trace(tiny().eval(), torch.zeros(1, 3, 8, 8))
    return lambda random: surgery.select(traced, selection(random))


def _options() -> Case:
    plugins = Plugins(bare=True)

    def case(random: Random) -> object:
        kind: Any = random.choice([kind for kind in STAGES if kind != "model"])
        return plugins.resolve(kind, stage(kind, random))

    return case


def _models() -> Case:
    plugins = Plugins(bare=True)

    def case(random: Random) -> object:
        Path("net.py").write_text("from torch import nn\ndef make(): return nn.Identity()\n")
        Path("some").mkdir()
        names = (
            "net.py:make",
            "net.py",
            "some",
            "./net.py:make",
            "net.py:",
            "net:make",
            stage("model", random),
            odd_text(random),
        )
        return surgery.load_model(random.choice(names) + random.choice(("", "", odd_text(random))), plugins=plugins)

    return case


def _names() -> Case:
    """Odd names of images, of modules and of keys, through a run with all sinks."""
    plugins = Plugins(bare=True)

    def case(random: Random) -> object:
        model = nn.Sequential()
        for _ in range(random.choice((1, 2, 3))):
            name = odd_text(random).replace(".", random.choice(("", "_"))) or "x"
            model.add_module(name, nn.Conv2d(3, 3, 1))
        paths = []
        for _ in range(random.choice((1, 2))):
            path = Path(odd_text(random).replace("/", "_").replace("\0", "") + random.choice((".png", ".PNG")))
            try:
                Image.new("RGB", (6, 5)).save(path, "png")
            except (OSError, ValueError):  # the disk has no such names
                continue
            paths.append(path)
        sinks = [plugins.resolve("sink", name) for name in random.sample(STAGES["sink"], 2)]
        return surgery.extract(model.eval(), paths, out="out", sinks=sinks, source=odd_text(random))

    return case


def _commands() -> Case:
    from surgery.cli import app as cli

    values = (
        "1",
        "0",
        "-1",
        "8x9",
        "native",
        "left",
        "both",
        "train",
        "cpu",
        "meta",
        "nonsense",
        "0,1",
        "x",
        "out",
        "a.png",
    )
    options = (
        "--at", "--normalizer", "--tiler", "--colormap", "--sink", "--reader", "--size", "--side", "--range", "--seed",
        "--batch-size", "--device", "--mode", "--transform", "--part", "--leaf", "--allow", "--no-plugin", "--kind",
    )  # fmt: skip
    flags = (
        "--stats",
        "--no-output",
        "--no-check",
        "--json",
        "--code",
        "--help",
        "--strict-plugins",
        "--no-plugins",
        "--x",
    )
    commands = (
        ["extract"],
        ["inspect"],
        ["check"],
        ["plugins"],
        ["plugins", "show"],
        ["plugins", "new"],
        ["plugins", "check"],
    )

    def case(random: Random) -> object:
        Image.new("RGB", (8, 8)).save("a.png")
        Path("net.py").write_text("from tests.fuzz.kinds import tiny as make\n")
        words = [*random.choice((*commands[:3], *commands))]
        models = ("net.py:make", "net.py:make", "net.py:make", odd_text(random), "a.png")
        words += (
            [random.choice(models), *random.choice(([], ["a.png"], [odd_text(random)]))]
            if len(words) == 1
            else [odd_text(random)]
        )
        for _ in range(random.choice((0, 1, 2, 3))):
            kind = random.choice(list(STAGES))
            value = random.choice((*values, odd_text(random), selection(random)[:500], stage(kind, random)))
            words += random.choice(([random.choice(options), value], [random.choice(flags)]))
        words = [word.replace("\0", "") for word in words]  # no shell can pass it
        out, err = io.StringIO(), io.StringIO()
        try:
            with mock.patch("sys.argv", ["surgery", *words]), redirect_stdout(out), redirect_stderr(err):
                cli.main()
        except SystemExit as ended:
            if ended.code in (None, 0):
                return None
            if ended.code in (1, 2) and "Traceback" not in err.getvalue() and "\x1b" not in err.getvalue():
                raise Misuse(err.getvalue().strip().splitlines()[-1] if err.getvalue().strip() else "failed") from None
            raise RuntimeError(f"exit code {ended.code} of {words}: {err.getvalue()[-2000:]}") from None
        return None

    return case


def _calls() -> Case:
    traced = surgery.trace(tiny().eval(), torch.zeros(1, 3, 8, 8))
    opened = surgery.insert(traced, surgery.operations(traced))
    known = SimpleNamespace(model=tiny().eval(), traced=traced, opened=opened, image=torch.zeros(1, 3, 8, 8))
    return lambda random: call_public_function(random, known, (*ODD, *(odd_text(random) for _ in range(3))))


KINDS: dict[str, Callable[[], Case]] = {
    "legacy": partial(_weights, "legacy"),
    "zip": partial(_weights, "zip"),
    "safetensors": partial(_weights, "safetensors"),
    "contents": _contents,
    "images": _images,
    "tensors": _tensors,
    "selections": _selections,
    "options": _options,
    "models": _models,
    "names": _names,
    "calls": _calls,
    "commands": _commands,
}
"""By the names that ``--kind`` takes."""
