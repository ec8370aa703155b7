"""torchvision's models, by name and from weights files under torchvision's own keys.

Nothing is downloaded: trained weights come from torch's cache or from a file that the user names.
"""

from __future__ import annotations

from surgery.builtin.torchvision.catalog import build, list_models, recognize, suggest_trained_weights

__all__ = ["build", "list_models", "recognize", "suggest_trained_weights"]
