"""The same layers in eval mode and in train mode, pix2pix's own test mode: side by side, at one scale."""

import torch
from PIL import Image

import surgery
from surgery.builtin import Symmetric
from surgery.data import inputs

model = surgery.load_model("facades")
image = surgery.load_image(inputs()[0], size=256)
values = []
for training in (False, True):
    traced = surgery.trace(model.train(training))
    opened = surgery.insert(traced, surgery.select(traced, "up5.norm"))
    torch.manual_seed(0)
    with torch.no_grad():
        values.append(surgery.record(opened, image)[0].values[:, :16])

pictures = surgery.draw(torch.cat(values), normalizer=Symmetric(per="batch"))
shown = [picture.image().convert("RGB").resize((512, 512), Image.Resampling.NEAREST) for picture in pictures]
beside = Image.new("RGB", (1034, 512), "white")
beside.paste(shown[0], (0, 0))
beside.paste(shown[1], (522, 0))
beside.save("eval_against_train.png")
print(f"greatest difference {(values[0] - values[1]).abs().max():.3f}; left eval, right train")
