import surgery


def ember():
    """Build a small network with random weights."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # (B, 3, H, W) float32 -> (B, 8, H, W)
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
    )


@surgery.hookimpl
def surgery_models():
    return {"ember": ember}
