"""In Python, a stage is a value: a colormap is a list of colors, or a function of numbers from 0 to 1."""

import numpy as np

import surgery
from surgery.data import inputs

model = surgery.load_model("facades").eval()
image = surgery.load_image(inputs()[2], size=256)
traced = surgery.trace(model)
opened = surgery.insert(traced, surgery.select(traced, "down1.conv"))
values = surgery.record(opened, image)[0].values


def sunset(levels: np.ndarray) -> np.ndarray:
    return np.stack([levels, levels**2, 0.4 + 0.3 * np.cos(3 * levels)], axis=1)


surgery.draw(values, colormap=sunset)[0].image().save("own_colormap.png")
surgery.draw(values, colormap=["black", "darkred", "orange", "white"])[0].image().save("ember.png")
