"""An animation of one layer after 100, 300 and 1,000 steps of training and at its end."""

import torch
from surgery_video.animation import animate

import surgery
from surgery.data import inputs


def over_training(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the limits of each channel over all checkpoints, so that frames can be compared."""
    return values.amin((0, 2, 3), keepdim=True), values.amax((0, 2, 3), keepdim=True)


image = surgery.load_image(inputs()[0], size=256)
values = []
for name in ("facades_100", "facades_300", "facades_1000", "facades"):
    traced = surgery.trace(surgery.load_model(name).eval())
    opened = surgery.insert(traced, surgery.select(traced, "up2.norm"))
    with torch.no_grad():
        values.append(surgery.record(opened, image)[0].values[:, :4])

animate(surgery.draw(torch.cat(values), normalizer=over_training, colormap="magma"), "training.png", fps=1)
