"""What do the channels that are most active on a label map look for? An input for each, and the sheet of them."""

import surgery
from surgery.data import inputs

model = surgery.load_model("facades").eval()
image = surgery.load_image(inputs()[0], size=256)
traced = surgery.trace(model, image)
best = surgery.maximize(traced, "down3.conv", top=4, image=image, steps=32)
print(best)
best.save("maximized", source="facades", overwrite=True)
