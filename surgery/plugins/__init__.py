"""Plugins: hook specifications, discovery, trust, the registry of names, options from text, the scaffold.

Names with options come in; values that plugins offer go out. No other room uses pluggy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
