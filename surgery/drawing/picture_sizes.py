"""How large a picture may be, so that viewers open it."""

from __future__ import annotations

MAX_MEGAPIXELS = 64
"""Of a picture, at most: many viewers open no more than some hundred million pixels, and Pillow warns from 89 on."""
MAX_SIDE = 32_767
"""Pixels of a picture's side, at most: browsers show no more."""
