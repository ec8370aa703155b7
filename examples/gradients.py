"""Where in a label map, and in which channels, is what the model paints into a window of the façade?

The gradient of one region of the output, and its Grad-CAM, as pictures.
"""

import surgery
from surgery.data import inputs

model = surgery.load_model("facades").eval()
image = surgery.load_image(inputs()[0], size=256)
traced = surgery.trace(model, image)
opened = surgery.insert(traced, surgery.select(traced, "down2.conv | up3.cat"))
window = surgery.Output(region=(0.25, 0.25, 0.2, 0.2))
for activation in surgery.record(opened, image, gradients=window):
    for shown in (activation, activation.gradient, surgery.grad_cam(activation)):
        if shown is not None:
            shown.pictures[0].image().save(f"{shown.path}.png")
