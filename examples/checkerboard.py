"""Does the checkerboard go with the transposed convolutions? Each becomes the resize and convolution nearest to it."""

import torch
from PIL import Image
from torch import nn

import surgery
from surgery.data import inputs

FIT = torch.tensor([[1.0, -1.0, 1.0, 3.0], [-2.0, 2.0, 2.0, -2.0], [3.0, 1.0, -1.0, 1.0]]) / 4


def resize_instead(former: nn.ConvTranspose2d) -> nn.Module:
    convolution = nn.Conv2d(former.in_channels, former.out_channels, 3, padding=1)
    convolution.weight, convolution.bias = nn.Parameter((FIT @ former.weight @ FIT.T).transpose(0, 1)), former.bias
    return nn.Sequential(nn.Upsample(scale_factor=2), convolution)


image = surgery.load_image(inputs()[1], size=256)
traced = surgery.trace(surgery.load_model("facades").eval(), image)
replaced = surgery.replace(traced, "op:convtranspose2d", resize_instead)
rows = torch.cat([traced(image), replaced(image), replaced(image) - traced(image)]).detach()
sky = 12 * (rows - nn.AvgPool2d(9, 1, 4)(rows))[..., 4:68, 64:128]
spectra = surgery.draw(sky.mean(1, keepdim=True), transforms="fft", normalizer="minmax:per=batch")
sheet = Image.new("RGB", (1048, 784), "white")
for y, (*images, spectrum) in enumerate(zip(rows, rows[..., 100:164, 60:124], sky, spectra, strict=True)):
    shown = [Image.fromarray((rgb.permute(1, 2, 0) * 127.5 + 127.5).clamp(0, 255).byte().numpy()) for rgb in images]
    for x, picture in enumerate([*shown, spectrum.image().convert("RGB")]):
        sheet.paste(picture.resize((256, 256), Image.Resampling.NEAREST), (264 * x, 264 * y))
sheet.save("checkerboard.png")
