"""Plugins that each break one promise, and the line that has to say so."""

from __future__ import annotations

import textwrap

HEAD = "import contextlib, pathlib, sqlite3, threading, surgery\n"


def offering(kind: str, thing: str, *before: str) -> str:
    """A plugin that offers one thing, `bad`: an expression, after some lines that it needs."""
    lines = textwrap.indent(f"import numpy as np, torch\n{chr(10).join(before)}\nreturn {{'bad': {thing}}}", "    ")
    return f"{HEAD}@surgery.hookimpl\ndef surgery_{kind}s():\n{lines}\n"


def sink(*write: str, start: str = "", finished: str = "", dropped: str = "", end: str = "", body: str = "") -> str:
    """A plugin that offers a sink, put together from the lines of its parts."""
    parts = [
        "kept = {}",
        start,
        "def write(activation):",
        *(f"    {line}" for line in write or ("pass",)),
        "def finished(image):",
        f"    {finished or 'pass'}",
        "def dropped(image):",
        f"    {dropped or 'kept.pop(image, None)'}",
        "folder.when_finished(finished)",
        "folder.when_dropped(dropped)",
        body or "yield write",
        end,
    ]
    inside = textwrap.indent("\n".join(filter(None, parts)), "    ")
    return offering("sink", "bad", f"@contextlib.contextmanager\ndef bad(folder):\n{inside}")


def watching(hook: str, body: str) -> str:
    """A plugin that watches runs."""
    return f"{HEAD}OPEN = globals().get('OPEN', [])\n@surgery.hookimpl\ndef {hook}:\n    {body}\n"


def measuring(numbers: str, *before: str) -> str:
    """A plugin that offers a measure, of an expression of `maps`."""
    about = ("def bad(maps): return own_numbers(maps)", "bad.unit, bad.reading = 'share', 'how many'")
    return offering("measure", "bad", *before, f"own_numbers = lambda maps: {numbers}", *about)


KEEP = "kept.setdefault(activation.image, []).append(activation.path)"
SAVE = "if image:\n        with folder.file(f'{image}/x.txt') as path: path.write_text(repr(%s))"
TIDY = "try: yield write\nexcept BaseException:\n    (folder.path / 'one' / 'x.txt').{}\n    raise"

BROKEN = {
    # transforms
    "a transform that writes to its input": (
        offering("transform", "lambda maps: maps.mul_(2)"),
        r"writes to its input, given three images of four channels",
    ),
    "a transform that drops the batch": (
        offering("transform", "lambda maps: maps[0]"),
        r"gives \(4, 8, 6\) torch.float32, not \(B, C, H, W\) float",
    ),
    "a transform that drops an image": (
        offering("transform", "lambda maps: maps[:1]"),
        r"gives maps of shape \(1, 4, 8, 6\), given \(3, 4, 8, 6\)",
    ),
    "a transform that leaves nothing of small maps": (
        offering("transform", "lambda maps: maps[:, :, 1:] - maps[:, :, :-1]"),
        r"gives maps of shape \(1, 1, 0, 1\), given \(1, 1, 1, 1\), given one value",
    ),
    "a transform that gives whole numbers": (
        offering("transform", "lambda maps: maps.nan_to_num().clamp(-9, 9).long()"),
        r"torch.int64, not \(B, C, H, W\) float",
    ),
    "a transform that mixes the images of a batch": (
        offering("transform", "lambda maps: maps - maps.mean(0, keepdim=True)"),
        r"lets the other images of a batch change an image's maps",
    ),
    "a transform that takes the model's random numbers": (
        offering("transform", "lambda maps: maps + torch.rand_like(maps)"),
        r"draws from torch's global random numbers",
    ),
    "a transform of chance": (
        offering("transform", "lambda maps: maps + torch.rand(maps.shape, generator=own)", "own = torch.Generator()"),
        r"gives other maps the second time",
    ),
    "a transform that can't do with NaN": (
        offering("transform", "lambda maps: maps * (1 / int(not maps.isnan().any()))"),
        r"raises ZeroDivisionError: division by zero, given maps with NaN and infinities \(and 1 more\)",
    ),
    "a transform that has no colors": (
        offering("transform", "f", "def f(maps): return maps[:, :2]", "f.color = True"),
        r"says that it gives colors, and gives 2 channels, not 3",
    ),
    "a transform that changes the default dtype": (
        offering(
            "transform",
            "f",
            "def f(maps):",
            "  torch.set_default_dtype(torch.float64)",
            "  return maps.abs()",
        ),
        r"changes torch's default dtype",
    ),
    "a transform that switches gradients off": (
        offering(
            "transform",
            "f",
            "def f(maps):",
            "  torch.set_grad_enabled(False)",
            "  return maps.abs()",
        ),
        r"switches gradients on or off",
    ),
    "a transform that changes the threads": (
        offering(
            "transform",
            "f",
            "def f(maps):",
            "  torch.set_num_threads(torch.get_num_threads() + 1)",
            "  return maps.abs()",
        ),
        r"changes torch's number of threads",
    ),
    "a transform that can't do with many channels": (
        offering("transform", "lambda maps: maps[:, [0] if maps.shape[1] < 1000 else 5000]"),
        r"raises IndexError: .*, given 2,000 channels",
    ),
    # normalizers
    "a normalizer of one map alone": (
        offering("normalizer", "lambda values: (values.std(), values.amax() + 9)"),
        r"not finite with low <= high, given one value",
    ),
    "a normalizer that divides by the range": (
        offering("normalizer", "lambda v: (v.amin() / (v.amax() - v.amin()), v.amax() / (v.amax() - v.amin()))"),
        r"not finite with low <= high, given one value",
    ),
    "a normalizer of float32 alone": (
        offering("normalizer", "lambda values: (values @ torch.zeros(values.shape[3], 1), values.amax() + 1e31)"),
        r"RuntimeError: expected .* dtype.*, given float64",
    ),
    "a normalizer that takes squares of great values": (
        offering("normalizer", "lambda values: (-values.square().mean(), values.square().mean())"),
        r"not finite with low <= high, given values of 1e30",
    ),
    "a normalizer that is not what it says of extremes": (
        offering(
            "normalizer",
            "f",
            "def f(values): return values.amin(), values.amax()",
            "f.of_extremes = lambda low, high: (low, high)",
        ),
        r"gives other limits by of_extremes than when it is called, given three images of four channels",
    ),
    "a normalizer whose limits are not the extremes that it says": (
        offering("normalizer", "f", "def f(values): return values.amin(), values.amax()", "f.are_extremes = True"),
        r"says that its limits are the extremes of each channel, and they are not, given three images",
    ),
    # tilers
    "a tiler that makes up codes": (
        offering("tiler", "lambda codes: (codes.float().mean(1, keepdim=True) + 1).byte()"),
        r"makes up the code",
    ),
    "a tiler that wants four channels": (
        offering("tiler", "lambda codes: codes[:, 3:4]"),
        r"gives pictures of shape \(1, 0, 1, 1\), given codes of shape \(1, 1, 1, 1\)",
    ),
    "a tiler that turns the batch around": (
        offering("tiler", "lambda codes: codes.flip(0)[:, :1]"),
        r"lets the other images of a batch change an image's pictures",
    ),
    "a tiler whose layout is of others": (
        offering(
            "tiler",
            "f",
            "from surgery.stages import TileLayout",
            "def f(codes): return codes[:, -1:]",
            "f.layout = lambda channels, height, width: TileLayout(1, 1, 1)",
        ),
        r"gives a layout of other pictures than when it is called, given codes of shape",
    ),
    "a tiler whose layout is none": (
        offering(
            "tiler",
            "f",
            "from surgery.stages import TileLayout",
            "def f(codes): return codes[:, :1]",
            "f.layout = lambda channels, height, width: TileLayout(channels, 2, 1)",
        ),
        r"can't lay out \(1, 1, 1, 1\): .*1 maps don't fill whole pictures of 2",
    ),
    "a tiler whose layout shows maps that are not there": (
        offering(
            "tiler",
            "f",
            "from surgery.stages import TileLayout",
            "def f(codes): return codes[:, :8]",
            "f.layout = lambda channels, height, width: TileLayout(8, 1, 1)",
        ),
        r"has to return a layout of 4 maps, not TileLayout\(maps=8",
    ),
    # colormaps
    "a colormap beyond its bounds": (
        offering("colormap", "lambda levels: np.stack([levels * 255] * 3, 1)"),
        r"gives colors from 0 to 255, not within \[0, 1\]",
    ),
    "a colormap of ranks": (
        offering(
            "colormap", "lambda levels: np.stack([np.linspace(0, 0.9, len(levels)) ** (251 / len(levels))] * 3, 1)"
        ),
        r"gives a level another color when there are 2 levels",
    ),
    "a colormap of chance": (
        offering("colormap", "lambda levels: own.random((len(levels), 3))", "own = np.random.default_rng()"),
        r"gives other colors the second time",
    ),
    "a colormap that is no color": (offering("colormap", "['blak', 'white']"), r"can't be sampled|blak"),
    # edits
    "an edit that writes to its input": (
        offering("edit", "lambda values: values.zero_()"),
        r"writes to its input, given three images of four channels",
    ),
    "an edit of another shape": (
        offering("edit", "lambda values: values.mean((2, 3), keepdim=True)"),
        r"gives \(3, 4, 1, 1\) torch.float32 in place of \(3, 4, 8, 6\) torch.float32",
    ),
    "an edit of float32 alone": (
        offering("edit", "lambda values: values.float()"),
        r"gives \(2, 3, 5, 7\) torch.float32 in place of \(2, 3, 5, 7\) torch.float64, given float64",
    ),
    "an edit that gives numbers": (offering("edit", "lambda values: 0.0"), r"gives float in place of \(3, 4, 8, 6\)"),
    "an edit that takes the model's random numbers": (
        offering("edit", "lambda values: values + torch.rand_like(values)"),
        r"draws from torch's global random numbers",
    ),
    "an edit of chance": (
        offering("edit", "lambda v: v + torch.rand(v.shape, generator=own).to(v)", "own = torch.Generator()"),
        r"gives other values the second time",
    ),
    "an edit that counts its calls": (
        offering(
            "edit",
            "Count()",
            "class Count:",
            "  calls = 0",
            "  def __call__(self, values): return values * 0 + self.calls",
            "  def __deepcopy__(self, memo):",
            "    copied = Count()",
            "    copied.calls = self.calls + 1",
            "    return copied",
        ),
        r"gives other values when it has been copied",
    ),
    "an edit without a gradient": (
        offering("edit", "lambda values: torch.from_numpy(values.float().numpy()).to(values)"),
        r"has no gradient: raises RuntimeError: Can't call numpy\(\) on Tensor that requires grad",
    ),
    "an edit that may be changed": (
        offering(
            "edit",
            "Bad()",
            "import dataclasses",
            "@dataclasses.dataclass",
            "class Bad:",
            "  by: float = 1.0",
            "  def __call__(self, values): return values * self.by",
        ),
        r"is a dataclass that is not frozen",
    ),
    "an edit of channels that are none": (
        offering("edit", "bad", "def bad(values): return values * 0", "bad.channels = 'first'"),
        r"channels are whole numbers and ranges from 0, such as 0-15,20, or 0-50%, not 'first'",
    ),
    "an edit of a region outside the map": (
        offering("edit", "bad", "def bad(values): return values * 0", "bad.region = (0.5, 0, 1, 1)"),
        r"a region is top, left, height and width within 0 to 1, not 0.5, 0, 1, 1",
    ),
    "an edit that keeps memory of its reference": (
        offering(
            "edit",
            "Bad()",
            "class Bad:",
            "  def __init__(self, kept=None): self.kept = kept",
            "  def of_reference(self, values): return Bad(values)",
            "  def __call__(self, values): return values * 0 + self.kept",
        ),
        r"keeps the values of its reference without copying them",
    ),
    # measures
    "a measure that writes to its input": (
        measuring("maps.zero_().double().mean((2, 3))"),
        r"writes to its input, given three images of four channels",
    ),
    "a measure of another shape": (
        measuring("maps.double().mean(1)"),
        r"gives \(3, 8, 6\) torch.float64, not \(3, 4\) or \(3, 1\) torch.float64",
    ),
    "a measure of float32": (measuring("maps.float().mean((2, 3))"), r"gives \(3, 4\) torch.float32, not \(3, 4\) or"),
    "a measure that gives a number": (measuring("0.5"), r"gives float, not \(3, 4\) or \(3, 1\) torch.float64"),
    "a measure of the whole batch": (
        measuring("maps.double().mean((2, 3)) - maps.double().mean()"),
        r"gives an image other numbers if there are other images beside it",
    ),
    "a measure of chance": (
        measuring("torch.rand(maps.shape[:2], generator=own).double()", "own = torch.Generator()"),
        r"gives other numbers the second time",
    ),
    "a measure that takes the model's random numbers": (
        measuring("torch.rand(maps.shape[:2]).double()"),
        r"draws from torch's global random numbers",
    ),
    "a measure that can't be read": (
        offering("measure", "lambda maps: maps.double().mean((2, 3))"),
        r"has no attribute 'unit', a text of one line that says what its numbers are",
    ),
    "a measure that fails for an operation": (
        offering(
            "measure",
            "Bad()",
            "class Bad:",
            "  unit, reading = 'share', 'none'",
            "  def of_operation(self, measured): return getattr(measured.module, 'weight', self)",
            "  def __call__(self, maps): return maps.double().mean((2, 3))",
        ),
        r"measure it returned \(.*\) torch.float32 for an operation, not a measure or None",
    ),
    # sinks
    "a sink that keeps live values": (
        sink(
            "kept.setdefault(activation.image, []).append(activation.values)",
            finished="if image:\n        with folder.file(f'{image}/x.npy') as p, p.open('wb') as file: "
            "np.save(file, kept.pop(image)[1].numpy())",
        ),
        r"keeps values without copying them: what a later operation writes to them is in one/x.npy",
    ),
    "a sink that shares what it keeps between runs": (
        sink(
            "shared.append(activation.path)",
            start="shared = write_to.setdefault('rows', [])",
            finished=SAVE % "len(shared)",
            end="shared.clear()",
        ).replace("@contextlib", "write_to = {}\n    @contextlib"),
        r"mixes up two runs at once, in two threads: .*/x.txt is not what it is alone",
    ),
    "a sink that is open once alone": (
        sink(
            start="assert lock.acquire(timeout=0.2), 'it is open already'",
            body="try: yield write\nfinally: lock.release()",
        ).replace("@contextlib", "lock = threading.Lock()\n    @contextlib"),
        r"raises AssertionError: it is open already, given two runs at once, in two threads",
    ),
    "a sink that writes at the end alone": (
        sink(KEEP, end="with folder.file('rows.txt') as path: path.write_text(repr(kept))"),
        r"loses rows.txt; write it when an image is finished, or in a finally, given a run that fails half-way",
    ),
    "a sink that leaves what failed": (
        sink("if activation.image:", "    with folder.file(f'{activation.image}/x.txt') as path: path.write_text('x')"),
        r"leaves lost/x.txt of the image that failed, given a run that fails half-way",
    ),
    "a sink that tidies up when it fails": (
        sink(
            finished=SAVE % "image",
            body=TIDY.format("unlink()"),
        ),
        r"removes one/x.txt, which was finished before, given a run that fails half-way",
    ),
    "a sink that cuts a file when it fails": (
        sink(
            finished=SAVE % "image",
            body=TIDY.format("write_text('')"),
        ),
        r"cuts one/x.txt, which was finished before, given a run that fails half-way",
    ),
    "a sink that does not forget what failed": (
        sink(
            "kept.setdefault('all', []).append(activation.path)",
            finished=SAVE % "kept.pop('all', 0)",
        ),
        r"lets an image that fails half-way change what is kept of others: three/x.txt",
    ),
    "a sink that hides errors": (
        sink(body="with contextlib.suppress(Exception):\n    yield write"),
        r"hides the error of a run that fails half-way",
    ),
    "a sink that writes past the folder": (
        sink("(folder.path / 'x.txt').write_text('x')"),
        r"writes x.txt past folder.file\(\) and folder.directory\(\), given a run",
    ),
    "a sink that writes to the values": (
        sink("activation.values.is_floating_point() and activation.values.mul_(2)"),
        r"writes to the values that it is given, given an image \(and \d+ more\)",
    ),
    "a sink that takes maps alone": (
        sink("activation.values.unsqueeze(0).mean((2, 3))"),
        r"raises .*given vectors in a run",
    ),
    "a sink that wants colors of every picture": (
        sink("[picture.palette.tobytes() for picture in activation.pictures]"),
        r"raises AttributeError: .*, given an image in a run",
    ),
    "a sink that takes one picture of each": (
        sink("(_,) = activation.pictures or [0]"),
        r"raises ValueError: too many values .*, given maps in a second run into the same folder",
    ),
    "a sink that needs an activation": (
        sink("kept[0] = activation", end="kept[0].path"),
        r"raises KeyError: 0, given a run without an activation",
    ),
    "a sink that finds its folder empty": (
        sink(start="(folder.path / 'store').mkdir()", body="with folder.directory('store'): yield write"),
        r"raises FileExistsError: .*, given a second run into the same folder",
    ),
    "a sink that is called later and wants values": (
        sink("activation.values.sum().item()").replace("return {'bad'", "bad.deferred = True\n    return {'bad'"),
        r"raises RuntimeError: .*meta.*, given an image in a run",
    ),
    "a sink that is called later and keeps to its thread": (
        sink("base.execute('select 1')", start="base = sqlite3.connect(':memory:')", end="base.close()").replace(
            "return {'bad'", "bad.deferred = True\n    return {'bad'"
        ),
        r"raises ProgrammingError: SQLite objects created in a thread can only be used in that same thread",
    ),
    "a sink that is not alone": (
        sink(
            KEEP, body="try: yield write\nfinally:\n    with folder.file('rows.txt') as path: path.write_text('')"
        ).replace("return {'bad'", "bad.alone = True\n    return {'bad'"),
        r"says by `alone` that it writes nothing of several images, and writes rows.txt",
    ),
    # models
    "a model that is none": (offering("model", "lambda: 'resnet'"), r"gives str, not a torch.nn.Module"),
    "a model that does not take what it says": (
        offering(
            "model",
            "make",
            "def make():",
            "  net = torch.nn.Conv2d(4, 4, 3)",
            "  net.size, net.in_channels = 8, 3",
            "  return net",
        ),
        r"does not take the 3x8x8 that it says it takes: raises RuntimeError",
    ),
    "a model that has no Preprocessing": (
        offering(
            "model",
            "make",
            "def make():",
            "  net = torch.nn.Conv2d(3, 4, 3)",
            "  net.preprocessing = {}",
            "  return net",
        ),
        r"has dict as preprocessing, not a surgery.stages.Preprocessing",
    ),
    "a family without names": (
        offering("model", "surgery.types.ModelFamily(torch.nn.Conv2d, list)", "import surgery.types"),
        r"is a family without a name",
    ),
    "a family whose names are numbers": (
        offering("model", "surgery.types.ModelFamily(torch.nn.Conv2d, lambda: [1])", "import surgery.types"),
        r"has a name that is int, not text",
    ),
    # readers
    "a reader that ends the run": (
        offering("reader", "f", "import sys", "def f(path): sys.exit('gone')"),
        r"ends the run, not with surgery.errors.ImageError but SystemExit, given a file that is not there",
    ),
    "a reader that keeps to its thread": (
        offering(
            "reader",
            "f",
            "base = sqlite3.connect(':memory:')",
            "def f(path): return torch.tensor(base.execute('select 1.0').fetchall())[None, None]",
            "f.suffixes = ('.npy',)",
        ),
        r"raises ProgrammingError: SQLite objects created in a thread .*, given a small .npy file",
    ),
    "a reader without a batch": (
        offering("reader", "f", "def f(path): return torch.zeros(3, 8, 8)", "f.suffixes = ('.npy',)"),
        r"gives \(3, 8, 8\) torch.float32, not \(1, ...\) tensors, given a small .npy file",
    ),
    "a reader of arrays": (
        offering(
            "reader",
            "f",
            "def f(path): return torch.zeros(1, 3, 8, 8).numpy()",
            "f.suffixes = ('.npy',)",
        ),
        r"gives ndarray, not \(1, ...\) tensors, given a small .npy file",
    ),
    "a reader of an empty dict": (
        offering("reader", "f", "def f(path): return {}", "f.suffixes = ('.npy',)"),
        r"gives dict, not \(1, ...\) tensors, given a small .npy file",
    ),
    "a reader of other values by name": (
        offering("reader", "f", "def f(path): return {'x': torch.rand(1, 3)}", "f.suffixes = ('.npy',)"),
        r"gives other values the second time, given a small .npy file",
    ),
    "a reader that gives its own memory": (
        offering(
            "reader",
            "f",
            "one = torch.ones(1, 3, 8, 8)",
            "def f(path): return one",
            "f.suffixes = ('.npy',)",
        ),
        r"gives the same memory each time, and a model may write to it",
    ),
    "a reader of chance": (
        offering(
            "reader",
            "f",
            "own = torch.Generator()",
            "def f(path): return torch.rand(1, 3, 8, 8, generator=own)",
            "f.suffixes = ('.npy',)",
        ),
        r"gives other values the second time, given a small .npy file",
    ),
    "a reader that writes to its file": (
        offering(
            "reader",
            "f",
            "def f(path):",
            "  path.write_bytes(b'')",
            "  return torch.zeros(1, 3, 8, 8)",
            "f.suffixes = ('.npy',)",
        ),
        r"writes to the file that it reads, given a small .npy file",
    ),
    "a reader of capital suffixes": (
        offering("reader", "f", "def f(path): return torch.zeros(1, 3, 8, 8)", "f.suffixes = ('.NPY',)"),
        r"has suffixes \('.NPY',\), not such as \('.npy',\) in lower case",
    ),
    # checkpoints
    "a reader of checkpoints that expects its keys": (
        offering("checkpoint", "lambda path, state: state['net.weight']"),
        r"raises KeyError: .*; for a file that it does not know it gives None, given no weights",
    ),
    "a reader of checkpoints that gives tensors": (
        offering("checkpoint", "lambda path, state: state.get('x')"),
        r"gives \(\) torch.float32, not a torch.nn.Module, a LoadedNetwork or None, given one number",
    ),
    "a reader of checkpoints that writes to the weights": (
        offering("checkpoint", "lambda path, state: [value.zero_() for value in state.values()] and None"),
        r"writes to the weights that it is given, given one number",
    ),
    "a reader of checkpoints that does not load": (
        offering("checkpoint", "lambda path, state: torch.nn.Conv2d(3, 4, 3) if 'x.bias' in state else None"),
        r"gives weight other values the second time, as if they were not loaded, given a convolution of nobody's",
    ),
    # watchers
    "a watcher that raises": (
        watching("surgery_activation(activation)", "activation.values.mean((0, 1))"),
        r"raises .*, given vectors in a run",
    ),
    "a watcher that writes to the values": (
        watching("surgery_activation(activation)", "activation.values.zero_()"),
        r"writes to the values that it is shown, given an image",
    ),
    "a watcher that counts on the end": (
        watching("surgery_run_started(run)", "assert OPEN.append(run) or len(OPEN) < 2, 'one is open'")
        + watching("surgery_run_finished(report)", "OPEN.clear()"),
        r"raises AssertionError: one is open, given the start of a run after one that failed",
    ),
    "a watcher that wants summaries": (
        watching("surgery_run_finished(report)", "report.summaries[0]"),
        r"raises IndexError: .*, given the end of a run in which every input failed",
    ),
    # plugins
    "a plugin that can't be imported": ("import nowhere", r"can't be imported: ModuleNotFoundError"),
    "a plugin with a misspelt hook": (
        offering("colormap", "['black', 'white']").replace("surgery_colormaps", "surgery_colourmaps"),
        r"there is no hook surgery_colourmaps; did you mean 'surgery_colormaps'",
    ),
    "a plugin whose hook raises": (offering("tiler", "1 / 0"), r"surgery_tilers raised ZeroDivisionError"),
    "a plugin that offers a wrong type": (offering("tiler", "3"), r"surgery_tilers offers 3 as tiler 'bad'"),
}
