"""Weights files as trainers write them, and damaged ones."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import os
import pathlib
import random
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import CheckpointError, ModelError
from surgery.models.checkpoints import load_checkpoint, open_checkpoint
from surgery.models.checkpoints.pickle_placeholders import PLACEHOLDERS
from surgery.models.checkpoints.weights_files import read_weights
from surgery.models.pix2pix.patchgan import PatchGAN
from surgery.models.pix2pix.resnet import ResNet
from surgery.models.pix2pix.state_dicts import to_public
from surgery.models.pix2pix.unet import UNet
from tests.fuzz.damaged_files import damage, weights

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> PatchGAN:
    torch.manual_seed(0)
    return PatchGAN(width=1)


@pytest.fixture(scope="module")
def state(network: PatchGAN) -> State:
    return to_public(network)


@pytest.fixture(scope="module")
def other(state: State) -> State:
    return {name: value + 1 for name, value in state.items()}


def same(model: nn.Module, state: State) -> bool:
    found = to_public(model)  # type: ignore[arg-type]
    return all(torch.equal(found[name], value) for name, value in state.items())


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


WRAPPINGS: dict[str, Any] = {
    "before torch 0.4.1": lambda s: {name: value for name, value in s.items() if "num_batches" not in name},
    "numbers beside it": lambda s: {"state_dict": s, "best": torch.tensor(0.1), "losses": torch.arange(3.0)},
    "a number among its keys": lambda s: {**under("module.", s), "n_averaged": torch.tensor(1)},
    "Lightning": lambda s: {"state_dict": under("model.", s), "hyper_parameters": {"lr": 1}, "optimizer_states": [{}]},
    "Lightning, a name of the user's": lambda s: {"state_dict": under("my_own_net.", s)},
    "DDP inside": lambda s: {"state_dict": under("netG.module.", s)},
    "compiled, and FSDP, inside": lambda s: {"state_dict": under("netG._orig_mod._fsdp_wrapped_module.", s)},
    "DDP around compiled around FSDP": lambda s: under("module._orig_mod._fsdp_wrapped_module.module.", s),
    "BasicSR": lambda s: {"params": s},
    "a list": lambda s: [s],
    "a tuple with a number": lambda s: (3, s),
    "deep": lambda s: {"a": [{"b": ({"model_state_dict": s},)}]},
}


@pytest.mark.parametrize("kind", WRAPPINGS)
def test_a_network_is_found_wherever_a_trainer_puts_it(kind: str, state: State, tmp_path: Path) -> None:
    opened = open_checkpoint(saved(WRAPPINGS[kind](state), tmp_path / "net.pth"))
    assert same(opened.model, state)
    assert opened.others == ()


PAIRS = [
    ({"netD": "d", "netG": "g"}, "netG", ("netD",)),
    ({"disc_state_dict": "d", "gen_state_dict": "g"}, "gen_state_dict", ("disc_state_dict",)),
    ({"params": "d", "params_ema": "g"}, "params_ema", ("params",)),
    ({"online": "d", "ema": "g"}, "ema", ("online",)),
    ({"G_AB": "g", "G_BA": "d"}, "G_AB", ("G_BA",)),
    ({"g": "d", "g_ema": "g"}, "g_ema", ("g",)),
]


@pytest.mark.parametrize(("names", "taken", "others"), PAIRS)
def test_of_several_networks_one_is_preferred_and_the_others_can_be_named(
    names: dict[str, str], taken: str, others: tuple[str, ...], state: State, other: State, tmp_path: Path
) -> None:
    values = {"g": state, "d": other}
    nested = saved({name: values[value] for name, value in names.items()}, tmp_path / "nested.pth")
    flat = {key: v for name, value in names.items() for key, v in under(f"{name}.", values[value]).items()}
    for path in (nested, saved(flat, tmp_path / "flat.pth"), saved({"state_dict": flat}, tmp_path / "deep.pth")):
        opened = open_checkpoint(path)
        assert (opened.part, opened.others) == (taken, others)
        assert opened.averaged == ("ema" in taken)
        assert same(opened.model, state)
        assert same(load_checkpoint(path, part=others[0]), other)
        with pytest.raises(CheckpointError, match=f"has no network 'x'; there is .*{taken}"):
            load_checkpoint(path, part="x")


def test_a_discriminator_recognized_by_its_shapes_is_not_preferred(state: State, tmp_path: Path) -> None:
    generator = to_public(ResNet(6, width=1))
    path = saved([state, generator], tmp_path / "net.pth")
    assert isinstance(load_checkpoint(path), ResNet)
    assert isinstance(load_checkpoint(path, part="0"), PatchGAN)


def test_a_note_says_which_network_was_loaded(
    state: State, other: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from surgery.cli import app as cli

    networks = {"params": to_public(UNet(5, width=1)), "params_ema": to_public(UNet(5, width=1))}
    saved(networks, tmp_path / "n.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["surgery", "inspect", "n.pth", "--part", "params"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == ""  # who names one needs not be told
    monkeypatch.setattr(sys, "argv", ["surgery", "inspect", "n.pth"])
    with pytest.raises(SystemExit):
        cli.main()
    assert (
        "n.pth holds 2 networks: the part params_ema (averages over the training) is loaded; there is also params"
        in capsys.readouterr().err
    )
    with pytest.raises(ModelError, match="facades is not a weights file, and only a weights file has parts"):
        surgery.load_model("facades", part="netG")


BESIDE = {
    "numpy numbers": [np.float64(1.5), np.int32(3), np.bool_(True)],
    "numpy arrays": [np.arange(3), np.array(["a"]), np.array([None, 1], object)],
    "settings": [argparse.Namespace(lr=0.1), types.SimpleNamespace(a=[1])],
    "paths": [pathlib.Path("x"), pathlib.PurePosixPath("x"), pathlib.PureWindowsPath("y")],
    "times": [dt.datetime.now(dt.UTC), dt.timedelta(1), dt.date(2020, 1, 1)],
    "containers": [collections.defaultdict(list, {"a": [1]}), collections.deque([1]), frozenset([1]), range(3)],
    "classes": [dict, torch.optim.Adam],
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_objects_beside_the_weights_are_left_out(
    kind: str, zipped: bool, state: State, tmp_path: Path
) -> None:
    path = tmp_path / "net.pth"
    torch.save({"more": BESIDE[kind], "netG": state}, path, _use_new_zipfile_serialization=zipped)
    assert same(load_checkpoint(path), state)


def test_the_placeholder_of_a_harmless_object_is_not_from_its_library(tmp_path: Path) -> None:
    assert all(stand_in.__module__ == "surgery.models.checkpoints.pickle_placeholders" for stand_in, _ in PLACEHOLDERS)  # type: ignore[misc]
    torch.save(argparse.Namespace(a=1), tmp_path / "net.pth")
    before = torch.serialization.get_safe_globals()
    with pytest.raises(CheckpointError, match="holds a pickled object, not a state_dict"):
        load_checkpoint(tmp_path / "net.pth")
    assert set(torch.serialization.get_safe_globals()) == set(before)


class Stranger:
    pass


@pytest.mark.parametrize("thing", [nn.Linear(1, 1), Stranger(), len, os.path.join])
def test_any_other_object_is_refused_and_not_run(thing: Any, state: State, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a pickled program object"):
        load_checkpoint(saved({"netG": state, "more": thing}, tmp_path / "net.pth"))


def test_recursive_and_deeply_nested_content_is_read(state: State, tmp_path: Path) -> None:
    loop: dict[str, Any] = {"netG": state}
    loop["self"] = loop
    assert same(load_checkpoint(saved(loop, tmp_path / "loop.pth")), state)
    ring: list[Any] = []
    ring.append([ring, (ring,)])
    with pytest.raises(CheckpointError, match="holds a list, not a state_dict"):
        load_checkpoint(saved(ring, tmp_path / "ring.pth"))
    deep: Any = {"netG": state}
    for _ in range(300):
        deep = [deep]
    with pytest.raises(CheckpointError):
        load_checkpoint(saved(deep, tmp_path / "deep.pth"))


@pytest.mark.parametrize("kind", ["legacy", "zip", "safetensors"])
def test_a_damaged_file_ends_in_one_line_or_is_read(kind: str, tmp_path: Path) -> None:
    whole = weights()[kind]
    path = tmp_path / f"net.{'safetensors' if kind == 'safetensors' else 'pth'}"
    path.write_bytes(whole)
    load_checkpoint(path)
    refused = 0
    for number in range(150):
        path.write_bytes(damage(whole, random.Random(number)))  # noqa: S311
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            refused += 1
            assert str(error).isprintable()  # noqa: PT017
    assert refused > 30


BAD = {
    "page": (b"<!DOCTYPE html>\n<html>", "is a web page, not weights"),
    "other page": (b"\n <html lang=en>", "is a web page, not weights"),
    "gzip": (b"\x1f\x8b\x08abc", "is a gzip archive"),
    "keras": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    "image": (b"\x89PNG\r\n\x1a\n", "is an image, not weights"),
    "json": (b'{"lr": 1}', "is a text file in JSON"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_the_error_for_another_file_format_names_it(kind: str, ending: str, tmp_path: Path) -> None:
    content, said = BAD[kind]
    (tmp_path / f"net.{ending}").write_bytes(content)
    expected = (
        said if ending == "pth" or kind in ("page", "other page", "gzip", "pointer") else "not a complete safetensors"
    )
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / f"net.{ending}")
    assert expected in str(caught.value)


def test_a_file_that_is_not_regular_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        load_checkpoint(tmp_path / "net.pth")
    np.savez(tmp_path / "x.npz", x=np.zeros(2))
    with pytest.raises(CheckpointError, match=r"zip archive without weights of torch\.save in it; it holds x\.npy"):
        load_checkpoint(tmp_path / "x.npz")


CHANGES: dict[str, Any] = {
    "complex": (lambda v: v.to(torch.complex64), "is complex64, and weights of a network are real"),
    "meta": (lambda v: v.to("meta"), "has a shape and no values"),
    "one value for all": (lambda v: torch.zeros(1).expand(v.shape), "has fewer values in the file than its shape"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_an_unusable_weight_is_named(kind: str, state: State, tmp_path: Path) -> None:
    change, said = CHANGES[kind]
    path = saved(state | {"model.2.weight": change(state["model.2.weight"])}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=f"layer2.conv.weight {said}"):
        load_checkpoint(path)


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize("kind", ["sparse", "quantized", "float64", "bfloat16"])
def test_weights_of_other_kinds_become_dense_floats(kind: str, state: State, tmp_path: Path) -> None:
    weight = state["model.2.weight"]
    changed = {
        "sparse": weight.to_sparse(),
        "quantized": torch.quantize_per_tensor(weight, 0.01, 0, torch.qint32),
        "float64": weight.double(),
        "bfloat16": weight.bfloat16(),
    }[kind]
    model: Any = load_checkpoint(saved(state | {"model.2.weight": changed}, tmp_path / "net.pth"))
    found = model.layer2.conv.weight
    assert found.dtype is torch.float32
    assert torch.allclose(found, weight, atol=0.01)


def test_shapes_that_exceed_memory_are_refused(state: State, tmp_path: Path) -> None:
    huge = {**state, "model.0.weight": torch.zeros(1).expand(10**7, 10**7, 4, 4)}
    with pytest.raises(CheckpointError):
        load_checkpoint(saved(huge, tmp_path / "net.pth"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of open files that torch leaves
@pytest.mark.parametrize("ending", [".safetensors", ".pth", "legacy.pth"])
def test_ctrl_c_while_a_file_is_read_is_not_blamed_on_the_file(ending: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    content = {f"layer{number}.weight": torch.zeros(64) for number in range(400)}
    path = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=ending == ".pth")
    draw, ends = random.Random(0), set()  # noqa: S311
    began = time.perf_counter()
    read_weights(path)
    seconds = time.perf_counter() - began
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of pytest-xdist ignore it
    usual_alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        for _ in range(60):
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.02, 0.9) * seconds)
            try:
                read_weights(path)
                time.sleep(3 * seconds)
            except KeyboardInterrupt:
                ends.add("interrupted")
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual_alarm)
        signal.signal(signal.SIGINT, usual)
    assert ends == {"interrupted"}
