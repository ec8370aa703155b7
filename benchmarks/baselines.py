"""What `surgery extract` is compared with: other ways to write pictures of activations, as a user would write them.

``python -m benchmarks.baselines NAME MODEL IMAGES BATCH FOLDER`` runs one of `BASELINES`: the network of a weights file
on so many images of 256 x 256, in batches. ``python -m benchmarks.baselines network FILE`` writes the weights file.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

MATPLOTLIB_STRIDES = (40, 20)
"""matplotlib draws every 40th and every 20th channel; `measurement.extrapolate_channels` computes the cost of all."""


def benchmark_images(count: int) -> list[Path]:
    """Return the paths of `count` label maps: the shipped ones, repeated."""
    from surgery.data import inputs

    shipped = [Path(path) for path in inputs()]
    return [shipped[number % len(shipped)] for number in range(count)]


def calibrated_network() -> nn.Module:
    """Return pix2pix's unet_256 with 64 channels: random weights, and norms with the statistics of these images.

    With the statistics of new norms, values would shrink from layer to layer, and pictures of values clamped to 0..1
    would be nearly black, unlike those of a trained network.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    import surgery

    torch.manual_seed(0)
    model = surgery.load_model("unet_256").train()
    for part in model.modules():
        if isinstance(part, _BatchNorm):
            part.momentum = None  # the mean of all batches
            part.reset_running_stats()
    with torch.no_grad():
        for values in load_batches(16, 8):
            model(values)
    return model.eval()


def load_batches(count: int, batch: int, device: str = "cpu") -> Iterator[Tensor]:
    """Yield the images in batches ``(B, 3, 256, 256)``."""
    import torch

    from surgery import load_image

    for paths in _batched(benchmark_images(count), batch):
        yield torch.cat([load_image(path, size=256) for path in paths]).to(device)


def plain(model: nn.Module, batches: Iterator[Tensor], _folder: Path) -> None:
    """Run the network, and nothing else."""
    for values in batches:
        model(values)


def ready_pictures(model: nn.Module, batches: Iterator[Tensor], folder: Path) -> None:
    """Run the network and write pictures that were drawn before: the cost if drawing cost nothing."""
    import surgery
    from surgery.drawing.png_files import save_png
    from surgery.output.json_values import as_json, picture_limits

    first = next(batches)
    opened = surgery.insert(traced := surgery.trace(model, first), surgery.operations(traced))
    drawn = {found.path: found.pictures[0] for found in surgery.record(opened, first[:1])}
    for number, maps in enumerate(batches):
        model(maps)
        for place in range(len(maps)):
            for name, picture in drawn.items():
                save_png(
                    folder / f"{number}-{place}-{name}.png",
                    picture,
                    {"surgery": as_json(dict(picture_limits(picture)))},
                )


def hooks(model: nn.Module, batches: Iterator[Tensor], folder: Path) -> None:
    """Hook every layer, clamp the values and save a grid of channels: a common snippet."""
    from torchvision.utils import save_image

    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, value: Tensor) -> None:
            kept[name] = value.detach().clone()

        return hook

    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(keep(name))
    for number, values in enumerate(batches):
        model(values)
        for name, maps in kept.items():
            for place, image in enumerate(maps):
                columns = int(len(image) ** 0.5)
                save_image(image.unsqueeze(1).clamp(0, 1), folder / f"{number}-{place}-{name}.png", nrow=columns)


def torchvision(model: nn.Module, batches: Iterator[Tensor], folder: Path) -> None:
    """Use the extractor of torchvision, scale each channel by itself and save a grid of channels."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names
    from torchvision.utils import make_grid, save_image

    names = [name for name in get_graph_node_names(model)[1] if name != "x"]
    extractor = create_feature_extractor(model.eval(), return_nodes=names)
    for number, values in enumerate(batches):
        for name, maps in extractor(values).items():
            for place, image in enumerate(maps):
                columns = int(len(image) ** 0.5)
                grid = make_grid(image.unsqueeze(1), nrow=columns, normalize=True, scale_each=True)
                save_image(grid, folder / f"{number}-{place}-{name}.png")


def matplotlib(model: nn.Module, batches: Iterator[Tensor], folder: Path, stride: int) -> None:
    """Hook every layer and save a figure for each, with an axis for every channel whose number `stride` divides."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, value: kept.update({name: value.detach().clone()})

    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(keep(name))
    for number, values in enumerate(batches):
        model(values)
        for name, maps in kept.items():
            for place, image in enumerate(maps):
                drawn = image[::stride]
                side = max(1, round(len(drawn) ** 0.5))
                figure, axes = plt.subplots(-(-len(drawn) // side), side, squeeze=False)
                for axis, channel in zip(axes.flat, drawn, strict=False):
                    axis.imshow(channel)
                    axis.axis("off")
                figure.savefig(folder / f"{number}-{place}-{name}.png")
                plt.close(figure)


BASELINES: dict[str, Callable[[nn.Module, Iterator[Tensor], Path], None]] = {
    **{baseline.__name__: baseline for baseline in (plain, ready_pictures, hooks, torchvision)},
    **{f"matplotlib-{stride}": partial(matplotlib, stride=stride) for stride in MATPLOTLIB_STRIDES},
}


def main() -> None:
    import torch

    import surgery

    name, path = sys.argv[1:3]
    if name == "network":
        from safetensors.torch import save_file

        save_file(calibrated_network().state_dict(), path)
        return
    count, batch, folder = int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
    model = surgery.load_model(path).eval()
    with torch.no_grad():
        BASELINES[name](model, load_batches(count, batch), folder)


def _batched(paths: list[Path], size: int) -> Iterator[list[Path]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))


if __name__ == "__main__":
    main()
