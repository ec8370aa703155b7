"""The same layer after 100, 300 and 1,000 steps of training and at its end: what has it learned to see, and when?"""

import torch

import surgery
from surgery.builtin import Strip
from surgery.data import inputs

image = surgery.load_image(inputs()[0], size=256)
values = []
for name in ("facades_100", "facades_300", "facades_1000", "facades"):
    traced = surgery.trace(surgery.load_model(name).eval())
    opened = surgery.insert(traced, surgery.select(traced, "up2.norm"))
    with torch.no_grad():
        values.append(surgery.record(opened, image)[0].values)

for picture, name in zip(surgery.draw(torch.cat(values), tiler=Strip()), ("100", "300", "1000", "end"), strict=True):
    picture.image().save(f"watch_training-{name}.png")
