"""Every activation of the shipped generator, and the picture of one."""

import surgery
from surgery.data import inputs

model = surgery.load_model("facades").eval()
image = surgery.load_image(inputs()[0], size=256)

traced = surgery.trace(model, image)
opened = surgery.insert(traced, surgery.operations(traced))
recorded = surgery.record(opened, image)

for activation in recorded:
    facts = activation.facts
    print(f"{activation.path:14} {tuple(activation.values.shape)!s:20} {facts.min:8.3f} to {facts.max:.3f}")

telling = next(activation for activation in recorded if activation.path == "up3.cat")
telling.pictures[0].image().save("look_inside.png")
