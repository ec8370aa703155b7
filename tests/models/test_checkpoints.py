from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import surgery
from surgery.errors import CheckpointError, ModelError
from surgery.models.checkpoints import load_checkpoint
from surgery.models.checkpoints.pix2pix_recognition import recognize_pix2pix
from surgery.models.pix2pix.patchgan import PatchGAN
from surgery.models.pix2pix.resnet import ResNet
from surgery.models.pix2pix.state_dicts import to_public
from surgery.models.pix2pix.unet import UNet
from surgery.models.plugin_readers import is_weights_source
from surgery.models.provenance import get_provenance
from surgery.plugins.registry import Plugins
from surgery.stages import CheckpointReader, LoadedNetwork


@pytest.fixture(scope="module")
def generator() -> UNet:
    torch.manual_seed(0)
    return UNet(7, width=1)


def same(model: nn.Module, other: nn.Module) -> bool:
    pairs = zip(model.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def wrapped(generator: UNet) -> dict[str, Any]:
    state = to_public(generator)
    discriminator = to_public(PatchGAN(width=1))
    return {
        "plain": state,
        "ours": generator.state_dict(),
        "data parallel": {f"module.{key}": value for key, value in state.items()},
        "compiled": {f"_orig_mod.module.{key}": value for key, value in state.items()},
        "trainer": {"state_dict": state, "optimizer": {"lr": 0.1}, "epoch": 3},
        "both": {"netD": discriminator, "netG": state},
        "both, flat": {
            **{f"netD.{key}": value for key, value in discriminator.items()},
            **{f"netG.{key}": value for key, value in state.items()},
        },
        "nested": {"model": {"generator": {f"module.{key}": value for key, value in state.items()}}},
    }


@pytest.mark.parametrize(
    "kind", ["plain", "ours", "data parallel", "compiled", "trainer", "both", "both, flat", "nested"]
)
def test_a_checkpoint_is_found_in_whatever_it_is_wrapped(kind: str, generator: UNet, tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G.pth"
    torch.save(wrapped(generator)[kind], path)
    assert same(load_checkpoint(path), generator)


def test_the_discriminator_is_loaded_if_it_is_named_or_alone(generator: UNet, tmp_path: Path) -> None:
    path = tmp_path / "both.pth"
    torch.save(wrapped(generator)["both"], path)
    assert isinstance(load_checkpoint(path, part="netD"), PatchGAN)
    torch.save({"netD": wrapped(generator)["both"]["netD"]}, path)
    assert isinstance(load_checkpoint(path), PatchGAN)
    with pytest.raises(CheckpointError, match="has no network 'netX'; there is netD"):
        load_checkpoint(path, part="netX")


def test_half_precision_weights_become_float32(generator: UNet, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({key: v.half() if v.is_floating_point() else v for key, v in to_public(generator).items()}, path)
    model = load_checkpoint(path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_loading_leaves_the_random_numbers_alone(generator: UNet, tmp_path: Path) -> None:
    torch.save(to_public(generator), tmp_path / "net.pth")
    before = torch.get_rng_state()
    load_checkpoint(tmp_path / "net.pth")
    assert torch.equal(before, torch.get_rng_state())


def bad_files(folder: Path, generator: UNet) -> dict[str, Path]:
    files = {
        name: folder / f"{name}.pth" for name in ("lfs", "empty", "text", "short", "object", "script", "list", "other")
    }
    files["lfs"].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 217\n")
    files["empty"].touch()
    files["text"].write_text("not weights")
    torch.save(to_public(generator), files["short"])
    files["short"].write_bytes(files["short"].read_bytes()[:5000])
    torch.save(nn.Linear(1, 1), files["object"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(1, 1)), files["script"])
    torch.save([1, 2], files["list"])
    torch.save({"epoch": 3}, files["other"])
    files["folder"] = folder
    files["missing"] = folder / "missing.pth"
    files["safetensors"] = folder / "short.safetensors"
    files["safetensors"].write_bytes(b"\x99\0\0\0\0\0\0\0{")
    return files


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lfs", "is a git-LFS pointer, not weights: run `git lfs pull`"),
        ("empty", "is empty"),
        ("text", "is not a weights file that torch.save has written"),
        ("short", "is cut short"),
        ("object", "is a pickled program object (torch.nn.modules.linear.Linear)"),
        ("script", "is a TorchScript program, not weights"),
        ("list", "holds a list, not a state_dict"),
        ("other", "it holds epoch"),
        ("folder", "is a folder"),
        ("missing", "there is no file"),
        ("safetensors", "is not a complete safetensors file"),
    ],
)
def test_a_file_that_is_not_weights_is_refused_in_one_clear_line(
    kind: str, message: str, generator: UNet, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(bad_files(tmp_path, generator)[kind])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_in_a_weights_file_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"model.0.weight": torch.zeros(1), "trap": Trap()}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="reading one runs whatever it says"):
        load_checkpoint(tmp_path / "net.pth")
    assert not (tmp_path / "sprung").exists()


def test_the_error_for_keys_that_do_not_fit_names_the_nearest_architecture(tmp_path: Path) -> None:
    state = to_public(ResNet(6, width=1, norm="batch"))
    del state["model.1.weight"]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "net.pth")
    assert "nearest is resnet_6blocks with norm 'batch'" in str(caught.value)
    assert "103 of 104 keys; missing model.1.weight" in str(caught.value)


def test_the_error_for_keys_that_do_not_fit_suggests_a_cause(tmp_path: Path, generator: UNet) -> None:
    state = to_public(generator)
    torch.save({name: value for name, value in state.items() if "running" not in name}, tmp_path / "norm.pth")
    with pytest.raises(CheckpointError, match=r"keys fit unet_\d+ with norm 'batch'.*may use a norm other than batch"):
        load_checkpoint(tmp_path / "norm.pth")
    ours = generator.state_dict()
    del ours["up5.deconv.weight"]
    torch.save(ours, tmp_path / "depth.pth")
    with pytest.raises(CheckpointError, match=r"missing up5.deconv.weight.*may have another depth"):
        load_checkpoint(tmp_path / "depth.pth")


def test_a_wrong_shape_is_named(tmp_path: Path, generator: UNet) -> None:
    state = to_public(generator)
    state["model.model.1.model.1.weight"] = torch.zeros(2, 9, 4, 4)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"down2.conv.weight is \(2, 9, 4, 4\), not \(2, 1, 4, 4\)"):
        load_checkpoint(tmp_path / "net.pth")


def test_networks_of_other_projects_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"down1.model.0.weight": torch.zeros(1), "up1.model.0.weight": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="PyTorch-GAN's GeneratorUNet"):
        load_checkpoint(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("unet_257", "no model is called 'unet_257'; did you mean 'unet_256'?"),
        ("torchvision/resnet19", "torchvision has no model 'resnet19'; did you mean"),
        ("torchvision", "torchvision is a family of models"),
        ("unet_128/x", "unet_128 is a model, not a family"),
        ("nowhere.at_all:build", "can't import nowhere.at_all"),
        ("torch.nn:Idenity", "torch.nn has no 'Idenity'; did you mean 'Identity'?"),
        ("os:getcwd", "a model is a torch.nn.Module"),
    ],
)
def test_a_model_that_does_not_exist_is_one_clear_line(source: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        surgery.load_model(source)
    assert message in str(caught.value)


def test_models_are_opened_by_name_file_and_callable(tmp_path: Path, generator: UNet) -> None:
    torch.save(to_public(generator), tmp_path / "net.pth")
    assert isinstance(surgery.load_model(tmp_path / "net.pth"), UNet)
    assert type(surgery.load_model("torchvision/resnet18")).__name__ == "ResNet"
    assert isinstance(surgery.load_model("torch.nn:Identity"), nn.Identity)


def test_readers_are_called_in_order_until_one_recognizes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save({"state_dict": {"module.weight": torch.ones(2, 3, 1, 1)}}, file)
    asked: list[str] = []

    def reader(name: str, model: nn.Module | None) -> CheckpointReader:
        def read(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
            assert (path, list(state)) == (file, ["weight"])
            with pytest.raises(TypeError):
                state["bias"] = state["weight"]  # type: ignore[index]
            asked.append(name)
            return model

        return read

    one, two = nn.Tanh(), nn.ReLU()
    readers = [recognize_pix2pix, reader("none", None), reader("one", one), reader("two", two)]
    assert load_checkpoint(file, readers=readers) is one
    assert asked == ["none", "one"]
    with pytest.raises(CheckpointError, match=r"its keys \(weight\) fit no known architecture"):
        load_checkpoint(file, readers=readers[:2])


def test_a_file_that_is_not_read_here_is_offered_without_a_state_dict(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save(nn.Tanh(), file)
    states: list[Mapping[str, Tensor]] = []
    ready = nn.Tanh()

    def read(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
        states.append(state)
        return ready if path == file else None

    assert load_checkpoint(file, readers=[recognize_pix2pix, read]) is ready
    assert [dict(state) for state in states] == [{}]
    with pytest.raises(CheckpointError, match="is a pickled program object"):
        load_checkpoint(file, readers=[recognize_pix2pix])
    with pytest.raises(CheckpointError, match="there is no file"):
        load_checkpoint(tmp_path / "gone.pth", readers=[read])


def test_another_reader_may_take_what_pix2pix_refuses(tmp_path: Path, generator: UNet) -> None:
    state = to_public(generator)
    state["model.extra"] = torch.ones(1)
    torch.save(state, tmp_path / "net.pth")
    ready = nn.Tanh()
    assert load_checkpoint(tmp_path / "net.pth", readers=[recognize_pix2pix, lambda path, state: ready]) is ready
    with pytest.raises(CheckpointError, match=r"unexpected model\.extra"):
        load_checkpoint(tmp_path / "net.pth", readers=[recognize_pix2pix, lambda path, state: None])


class OwnReader:
    """A reader of files and folders of its own, which hold several networks."""

    suffixes = (".own",)
    reads_parts = True

    def recognizes_folder(self, path: Path) -> bool:
        return (path / "weights.own").is_file()

    def __call__(self, path: Path, state: Mapping[str, Tensor], /, *, part: str | None = None) -> LoadedNetwork | None:
        names = ["encoder", "decoder"]
        if state or not (path.is_dir() or path.suffix == ".own"):
            return None
        name = part or "encoder"
        if name not in names:
            raise CheckpointError(f"{path} has no network {name!r}")
        names.remove(name)
        return LoadedNetwork(nn.Conv2d(3, 2, 1), name, others=tuple(names), notes=(f"it is the {name}",))


OWN_PLUGIN = """
import surgery
from tests.models.test_checkpoints import OwnReader

@surgery.hookimpl
def surgery_checkpoints():
    return {"own": OwnReader()}
"""


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """Files of a code base that a plugin knows, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("net.own", "folder/weights.own"):
        (tmp_path / name).write_bytes(b"own")
    (tmp_path / "own_plugin.py").write_text(OWN_PLUGIN)
    return Plugins([tmp_path / "own_plugin.py"])


@pytest.mark.parametrize("source", ["net.own", "folder"])
def test_a_reader_chooses_among_the_networks_of_its_files_and_folders(source: str, own_files: Plugins) -> None:
    note = f"{source} holds 2 networks: the part encoder is loaded; there is also decoder"
    chosen = get_provenance(surgery.load_model(source, plugins=own_files))
    assert chosen.notes_on_network(source) == [note, f"{source}: it is the encoder"]
    other = get_provenance(surgery.load_model(source, part="decoder", plugins=own_files))
    assert (other.part, other.others) == ("decoder", ("encoder",))
    with pytest.raises(CheckpointError, match=f"{source} has no network 'head'"):
        surgery.load_model(source, part="head", plugins=own_files)


def test_a_folder_is_only_given_to_readers_that_know_it(tmp_path: Path, own_files: Plugins) -> None:
    def read(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
        raise AssertionError

    assert isinstance(load_checkpoint(tmp_path / "folder", readers=[read, OwnReader()]), nn.Conv2d)
    with pytest.raises(CheckpointError, match="folder is a folder; name the weights file in it"):
        load_checkpoint(tmp_path / "folder", readers=[read])
    with pytest.raises(CheckpointError, match=r"net.own is not a weights file that torch.save has written"):
        load_checkpoint(tmp_path / "net.own", "encoder", readers=[read])


def test_the_suffixes_of_readers_are_those_of_weights_files(own_files: Plugins) -> None:
    with pytest.raises(ModelError, match=r"there is no file nett.own; did you mean 'net.own'"):
        surgery.load_model("nett.own", plugins=own_files)
    Path("several").mkdir()
    Path("several/a.own").touch()
    with pytest.raises(ModelError, match=r"several is a folder; name one of the weights files in it, .*a.own"):
        surgery.load_model("several", plugins=own_files)
    sources = ("net.own", "gone.own", "folder", "several", "a.pth", "a.png", "a.npy", "name")
    named = [source for source in sources if is_weights_source(Path(source), own_files)]
    assert named == ["net.own", "gone.own", "folder", "a.pth"]
