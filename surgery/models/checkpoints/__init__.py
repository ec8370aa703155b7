"""Weights files to models: read without running code from the file, and matched to a known architecture."""

from __future__ import annotations

from surgery.models.checkpoints.key_mismatch import KeyMismatch, compare_keys
from surgery.models.checkpoints.opening import load_checkpoint, open_checkpoint, read_state
from surgery.models.checkpoints.pix2pix_recognition import recognize_pix2pix
from surgery.models.checkpoints.weights_files import (
    WEIGHTS_SUFFIXES,
    describe_tensorflow_folder,
    list_weights_files,
    read_weights,
)

__all__ = [
    "WEIGHTS_SUFFIXES",
    "KeyMismatch",
    "compare_keys",
    "describe_tensorflow_folder",
    "list_weights_files",
    "load_checkpoint",
    "open_checkpoint",
    "read_state",
    "read_weights",
    "recognize_pix2pix",
]
