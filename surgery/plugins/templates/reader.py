import surgery
from surgery.errors import ImageError


def ember(path):  # a pathlib.Path
    """Read a text file of numbers from -1 to 1, one row per line, as a gray image of 256x256."""
    import torch

    try:
        rows = [[float(number) for number in line.split()] for line in path.read_text(encoding="utf-8").splitlines()]
        values = torch.tensor(rows)[None, None]  # (1, 1, H, W) float32
        return torch.nn.functional.interpolate(values, (256, 256)).repeat(1, 3, 1, 1)  # (1, C, H, W) float
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"can't read {path}: {error}") from error


ember.suffixes = (".txt",)


@surgery.hookimpl
def surgery_readers():
    return {"ember": ember}
