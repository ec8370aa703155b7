"""Files that are cut short, damaged or hostile, and files of other networks: one clear line each, nothing is run."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from struct import pack
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from PIL import Image
from surgery_tensorflow import surgery_checkpoints
from surgery_tensorflow.bundle import Bundle
from surgery_tensorflow.object_graph import group_by_names
from surgery_tensorflow.protobuf import DamagedMessageError, read_varint
from surgery_tensorflow.saved_models import read_settings
from surgery_tensorflow.stored_values import StoredVariable
from surgery_tensorflow.table import read_table

import surgery
from surgery.errors import CheckpointError, ModelError

HERE = Path(__file__).parent
FILES = HERE / "files"
PAGE = HERE.parents[2] / "docs" / "pages" / "how-to" / "from-tensorflow.md"
READER: Any = surgery_checkpoints()["tensorflow"]
INDEX = "tf1/plain/model-200.index"
DATA = "tf1/plain/model-200.data-00000-of-00001"


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as raised:
        READER(path, {})
    assert str(raised.value).count("\n") == 0
    assert str(path.name) in str(raised.value)
    return str(raised.value)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A copy of a checkpoint of TensorFlow 1; its index."""
    for name in (INDEX, DATA):
        shutil.copy(FILES / name, tmp_path)
    return tmp_path / "model-200.index"


@pytest.mark.parametrize("name", ["k2/g.h5", "k3/g.keras", "k3/instance.weights.h5", INDEX, DATA])
def test_a_damaged_file_is_one_clear_line_or_loads(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)  # noqa: S311
    for other in (FILES / name).parent.glob("model-*"):
        shutil.copy(other, tmp_path)
    whole = (FILES / name).read_bytes()
    refusals = 0
    for _ in range(24):
        data = bytearray(whole)
        place, size = chance.randrange(len(data)), chance.choice((1, 8, 200))
        kind = chance.randrange(4)
        if kind == 0:
            del data[place:]
        elif kind == 1:
            data[place : place + size] = chance.randbytes(size)
        elif kind == 2:
            data[place:place] = data[place : place + size]
        else:
            data[chance.randrange(min(2000, len(data)))] ^= 1 << chance.randrange(8)
        (tmp_path / Path(name).name).write_bytes(data)
        try:
            READER(tmp_path / Path(name).name, {})
        except CheckpointError as error:
            refusals += 1
            assert "\n" not in str(error)  # noqa: PT017 - some mutants are sound
    assert refusals > 8


def test_every_flipped_bit_of_a_checkpoint_is_noticed(plain: Path) -> None:
    whole = bytearray(plain.read_bytes())
    for place in range(0, len(whole) - 48, 97):
        plain.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert "damaged index of a TensorFlow checkpoint" in refused(plain)
    plain.write_bytes(whole)
    data = plain.with_name(Path(DATA).name)
    values = bytearray(data.read_bytes())
    entry = Bundle(plain)._entries["generator/encoder_2/conv2d/kernel"]
    values[entry.offset + 5] ^= 1
    data.write_bytes(values)
    assert "the checksum of generator/encoder_2/conv2d/kernel is wrong; fetch it again" in refused_data(plain)


def refused_data(index: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        READER(index, {})
    return str(raised.value)


def test_a_checkpoint_without_its_data_says_what_is_missing(plain: Path) -> None:
    data = plain.with_name(Path(DATA).name)
    data.write_bytes(data.read_bytes()[:5000])
    assert re.search(r"is cut short: .* ends after its 5,000 bytes; fetch it again", refused_data(plain))
    data.unlink()
    assert "lacks its file model-200.data-00000-of-00001; copy all files of the checkpoint here" in refused(plain)


def test_data_does_not_lead_out_of_the_folder(plain: Path, tmp_path: Path) -> None:
    data = plain.with_name(Path(DATA).name)
    (tmp_path / "elsewhere").mkdir()
    data.rename(tmp_path / "elsewhere" / "data")
    data.symlink_to(tmp_path / "elsewhere" / "data")
    assert "is a link that leads out of its folder" in refused_data(plain)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "../../model-200"\n')
    data.unlink()
    shutil.copy(FILES / DATA, tmp_path)
    assert READER(tmp_path, {}).part == "generator"


def test_sizes_are_checked_before_memory_is_taken(plain: Path, tmp_path: Path) -> None:
    bundle = Bundle(plain)
    name = "generator/encoder_2/conv2d/kernel"
    for change in ({"size": 1 << 50}, {"shape": (1 << 40, 1 << 20)}, {"offset": 1 << 60}, {"shard": 7}):
        bundle._entries[name] = replace(Bundle(plain)._entries[name], **change)
        with pytest.raises(CheckpointError):
            bundle.variables()[name].read()
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.create_dataset("0", shape=(4, 4, 1 << 15, 1 << 20), dtype="f4", chunks=(4, 4, 64, 64))
    assert "huge.h5 has 1 layer" in refused(tmp_path / "huge.h5")
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(1 << 22))
    assert "would take 4,194,304 bytes, which is too many" in refused(tmp_path / "bomb.keras")


def test_values_of_hdf5_in_other_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    np.zeros((4, 4, 3, 2), np.float32).tofile(secret)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["0"] = np.zeros((4, 4, 3, 2), np.float32)
    for kind in ("external", "virtual", "link"):
        path = tmp_path / f"{kind}.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/conv2d/vars")
            if kind == "external":
                group.create_dataset("0", (4, 4, 3, 2), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
            elif kind == "virtual":
                layout = h5py.VirtualLayout((4, 4, 3, 2), "f4")
                layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "0", (4, 4, 3, 2))
                group.create_virtual_dataset("0", layout)
            else:
                group["0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "0")
        assert re.search(
            "in another file, which is not read|link to another file, which is not followed", refused(path)
        )


def test_files_of_other_networks_say_what_they_hold(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.zeros((3, 4), np.float32)
        file["layers/dense/vars/1"] = np.zeros(4, np.float32)
    said = "has 1 layer, which is not one of a pix2pix network of TensorFlow's tutorial or affinelayer's code: dense"
    assert said in refused(tmp_path / "net.weights.h5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    assert "holds no weights" in refused(tmp_path / "empty.h5")
    (tmp_path / "text.h5").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(CheckpointError, match="is a git-LFS pointer, not weights"):
        surgery.load_model(tmp_path / "text.h5")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    assert "is a SavedModel without variables/variables.index" in refused(tmp_path / "saved")


@pytest.mark.parametrize("name", ["k3/lambda.keras", "k2/lambda.h5"])
def test_a_layer_of_python_code_is_refused_by_name(name: str) -> None:
    assert "has twice (Lambda), which is Python code, reads files or is not of Keras itself, and is not run" in refused(
        FILES / name
    )


@pytest.mark.parametrize(
    "change",
    [
        {"module": "builtins", "class_name": "eval"},
        {"module": "keras.utils", "class_name": "get_file"},
        {"module": "mine", "class_name": "Sequential"},
        {"module": "mine", "class_name": "Own", "registered_name": "mine>Own"},
        {"module": "keras.layers", "class_name": "TorchModuleWrapper"},
        {"module": "keras.layers", "class_name": "StringLookup"},
    ],
)
def test_what_is_not_a_layer_of_keras_is_refused_by_name(change: dict[str, str], tmp_path: Path) -> None:
    with zipfile.ZipFile(FILES / "k3/other.keras") as archive:
        config = json.loads(archive.read("config.json"))
        config["config"]["layers"][1] |= change
        with zipfile.ZipFile(tmp_path / "changed.keras", "w") as changed:
            changed.writestr("config.json", json.dumps(config))
            changed.writestr("model.weights.h5", archive.read("model.weights.h5"))
    assert f"has stem ({change['class_name']}), which is Python code" in refused(tmp_path / "changed.keras")


def test_another_model_of_keras_says_what_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    assert "; other models need Keras 3, which is missing: pip install keras" in refused(FILES / "k3/other.keras")


def test_numbers_and_tables_that_end_too_early_are_found() -> None:
    assert read_varint(b"\xac\x02", 0) == (300, 2)
    for data in (b"", b"\x80", b"\x80" * 12):
        with pytest.raises(DamagedMessageError):
            read_varint(data, 0)
    table = (FILES / INDEX).read_bytes()
    assert len(read_table(table)) == 185
    for size in (0, 47, 48, 100, len(table) - 1):
        with pytest.raises(DamagedMessageError):
            read_table(table[:size])


def test_bfloat16_is_the_upper_half_of_float32(plain: Path) -> None:
    name = "generator/encoder_2/conv2d/kernel"
    bundle = Bundle(plain)
    known = bundle.variables()[name].read().ravel()
    entry = bundle._entries[name]
    bundle._entries[name] = replace(entry, dtype=14, shape=(2 * known.size,))
    halves = bundle.variables()[name].read()
    assert halves.dtype == np.float32
    assert np.array_equal(halves[1::2], (known.view("<u4") & 0xFFFF0000).view("<f4"))


def message(number: int, *contents: bytes) -> bytes:
    """A field of a message that holds bytes, of less than 128."""
    content = b"".join(contents)
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(
    ("slopes", "expected"), [(["default"], 0.2), ([0.3], 0.3), ([0.3, 0.3], 0.3), ([0.3, "default"], None), ([], None)]
)
def test_the_program_of_a_saved_model_tells_the_slope_unless_it_has_several(
    slopes: list[Any], expected: float | None, tmp_path: Path
) -> None:
    nodes = []
    for slope in slopes:
        alpha = b"" if slope == "default" else message(5, message(1, b"alpha"), message(2, b"\x25", pack("<f", slope)))
        nodes.append(message(1, message(2, b"LeakyRelu"), alpha))
    (tmp_path / "saved_model.pb").write_bytes(message(2, message(2, *nodes)))
    settings = read_settings(tmp_path)
    assert (None if settings is None else settings.slope) == expected


def test_what_optimizers_keep_is_no_model() -> None:
    kernel = StoredVariable((4, 4, 3, 8), lambda: np.zeros((4, 4, 3, 8), np.float32))
    names = ("conv2d/kernel", "conv2d/kernel/Adam", "conv2d/kernel/Adam_1")
    models = group_by_names(
        {f"{part}/{name}": kernel for part in ("generator", "Optimizer", "generator_train") for name in names}
    )
    assert [(model.name, [layer.path for layer in model.layers]) for model in models] == [("generator", ["conv2d"])]


def test_without_the_plugin_the_project_names_it(tmp_path: Path) -> None:
    bare = import_module("surgery.plugins").Plugins(bare=True)
    for name in ("k2/g.h5", "k3/g.keras", INDEX, "k3/export", "k2/training_checkpoints"):
        with pytest.raises(ModelError, match="the plugin surgery-tensorflow opens networks") as raised:
            surgery.load_model(FILES / name, plugins=bare)
        assert "\n" not in str(raised.value)


def test_the_commands_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = import_module("surgery.cli")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FILES / "k2/training_checkpoints", "training_checkpoints")
    for name, source in (("generator.h5", "k2/g.h5"), ("generator.keras", "k3/g.keras")):
        shutil.copy(FILES / source, name)
    for name in (INDEX, DATA):
        shutil.copy(FILES / name, ".")
    Image.new("RGB", (512, 256)).save("facade.png")
    commands = re.findall(r"^    (surgery .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    commands.remove("surgery inspect my_model.keras")  # which needs Keras
    assert len(commands) == 5
    for command in commands:
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", command)]
        with mock.patch.object(sys, "argv", [*words, "--plugin", str(HERE.parent / "surgery_tensorflow")]):
            try:
                cli.main()
            except SystemExit as stop:
                assert not stop.code, command  # noqa: PT017
