"""Train the model that ships: a small pix2pix on procedural façades. One CPU thread, 25 minutes by default.

    python examples/train_facades.py [MINUTES]

Writes `facades-100`, `-300` and `-1000.safetensors` after so many steps and, at the end, `facades.safetensors` and
`facades-discriminator.safetensors`, in half precision. Prints the mean absolute error on 16 pairs that are not trained
on (in a range of 2).
"""

import sys
import time

import numpy as np
import torch
from facades import draw_pair
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from surgery.models import PatchGAN, UNet

PAIRS, HELD_OUT, BATCH, L1_WEIGHT, RATE = 400, 16, 2, 100, 4e-4
CALM = 0.35  # share of the time, at the end, in which the learning rate falls to nothing


def pairs(seeds: range) -> tuple[Tensor, Tensor]:
    """Label maps and images, ``(N, 3, 256, 256)`` uint8 each."""
    drawn = [draw_pair(seed) for seed in seeds]
    labels, images = (torch.from_numpy(np.stack(half)).permute(0, 3, 1, 2) for half in zip(*drawn, strict=True))
    return labels, images


def scaled(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def initialize(module: nn.Module) -> None:
    """As the paper does: normal, deviation 0.02."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


def save(network: nn.Module, name: str) -> None:
    state = network.state_dict().items()
    save_file(
        {key: value.half() if value.is_floating_point() else value for key, value in state}, f"{name}.safetensors"
    )


def train(minutes: float) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    labels, images = pairs(range(1000, 1000 + PAIRS))
    unseen = tuple(scaled(half) for half in pairs(range(HELD_OUT)))
    generator, discriminator = UNet(width=8).apply(initialize), PatchGAN(width=16).apply(initialize)
    optimizers = [
        torch.optim.Adam(network.parameters(), rate, betas=(0.5, 0.999))
        for network, rate in ((generator, RATE), (discriminator, RATE / 2))
    ]
    started, steps = time.monotonic(), 0
    while (left := 1 - (time.monotonic() - started) / (60 * minutes)) > 0:
        for optimizer, rate in zip(optimizers, (RATE, RATE / 2), strict=True):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, max(0.02, left / CALM))
        chosen = torch.randint(0, PAIRS, (BATCH,))
        given, real = scaled(labels[chosen]), scaled(images[chosen])
        if torch.rand(()) < 0.5:
            given, real = given.flip(3), real.flip(3)
        fake = generator(given)

        judged = discriminator(torch.cat([given, real], 1)), discriminator(torch.cat([given, fake.detach()], 1))
        losses = [
            binary_cross_entropy_with_logits(score, torch.full_like(score, truth))
            for score, truth in zip(judged, (1.0, 0.0), strict=True)
        ]
        optimizers[1].zero_grad()
        torch.stack(losses).mean().backward()
        optimizers[1].step()

        score = discriminator(torch.cat([given, fake], 1))
        believed = binary_cross_entropy_with_logits(score, torch.ones_like(score))
        optimizers[0].zero_grad()
        (believed + L1_WEIGHT * (fake - real).abs().mean()).backward()
        optimizers[0].step()

        steps += 1
        if steps in (100, 300) or steps % 1000 == 0:
            report(generator, unseen, steps)
        if steps in (100, 300, 1000):
            save(generator, f"facades-{steps}")
    settle(generator, labels)
    report(generator, unseen, steps)
    save(generator, "facades")
    save(discriminator, "facades-discriminator")


def settle(generator: nn.Module, labels: Tensor) -> None:
    """Make the running statistics the average over all pairs: with batches of 2 they only follow the latest."""
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for batch in labels.split(8):
            generator(scaled(batch))


def report(generator: nn.Module, unseen: tuple[Tensor, ...], steps: int) -> None:
    generator.eval()
    with torch.no_grad():
        error = (generator(unseen[0]) - unseen[1]).abs().mean()
    generator.train()
    print(f"{steps} steps: mean absolute error {error:.4f} on {HELD_OUT} unseen pairs", flush=True)


if __name__ == "__main__":
    train(float(sys.argv[1]) if len(sys.argv) > 1 else 25.0)
