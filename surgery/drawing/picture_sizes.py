"""Sizes in pictures, and the largest pictures that viewers open."""

from __future__ import annotations

LABEL_HEIGHT = 13
"""Pixels above a map for its number."""
MAX_MEGAPIXELS = 64
"""Megapixels of a picture. Many viewers open no more than about a hundred; Pillow warns from 89 on."""
MAX_SIDE = 32_767
"""Pixels of a picture's width or height, as many as browsers show."""
