"""What was allowed while a model was traced is in the manifest."""

from __future__ import annotations

import json
import random
from pathlib import Path

from torch import Tensor, nn

import surgery
from surgery.data import inputs


class Jitter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + random.random()  # noqa: S311


def settings_and_hazards(model: nn.Module, out: Path, **options: list[str]) -> tuple[dict[str, object], list[str]]:
    surgery.extract(model, inputs()[0], out=out, size=16, check=False, **options)  # type: ignore[arg-type]
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return manifest["settings"], manifest.get("hazards", [])


def test_an_allowed_hazard_and_the_kept_modules_are_in_the_manifest(tmp_path: Path) -> None:
    settings, hazards = settings_and_hazards(Jitter(), tmp_path / "allowed", allow=["random"])
    assert settings["allow"] == ["random"]
    assert len(hazards) == 1
    assert "test_manifest_hazards.py" in hazards[0]
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)))
    settings, hazards = settings_and_hazards(model, tmp_path / "kept", leaves=["0"])
    assert settings["leaves"] == ["0"]
    assert hazards == []


def test_a_plain_run_has_neither(tmp_path: Path) -> None:
    settings, hazards = settings_and_hazards(nn.Sequential(nn.Conv2d(3, 3, 1)), tmp_path / "plain")
    assert settings.keys().isdisjoint({"allow", "leaves"})
    assert hazards == []
