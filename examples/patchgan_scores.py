"""Where the discriminator believes the generator: its score of every patch, laid over the image."""

import torch
from PIL import Image

import surgery
from surgery.builtin import Fixed
from surgery.data import inputs

generator = surgery.load_model("facades").eval()
discriminator = surgery.load_model("facades_discriminator").eval()
label_map = surgery.load_image(inputs()[0], size=256)

with torch.no_grad():
    fake = generator(label_map)
    traced = surgery.trace(discriminator)
    opened = surgery.insert(traced, surgery.select(traced, "score"))
    score = surgery.record(opened, torch.cat([label_map, fake], 1))[0].values.sigmoid()

painted = Image.fromarray(((fake[0].permute(1, 2, 0) + 1) * 127.5).byte().numpy()).resize((512, 512))
heat = surgery.draw(score, normalizer=Fixed(0, 1), colormap="magma")[0].image().convert("RGB").resize((512, 512))
Image.blend(painted, heat, 0.55).save("patchgan_scores.png")
print(f"believed: {score.mean():.0%} on average, from {score.min():.0%} to {score.max():.0%} of a patch")
