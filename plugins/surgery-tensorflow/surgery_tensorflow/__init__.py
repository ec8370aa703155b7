"""Weights files of TensorFlow and Keras: pix2pix networks of the tutorial and of affinelayer, and models of Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import surgery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import CheckpointReader


@surgery.hookimpl
def surgery_checkpoints() -> Mapping[str, CheckpointReader]:
    from surgery_tensorflow.reader import TensorFlowReader

    return {"tensorflow": TensorFlowReader()}
