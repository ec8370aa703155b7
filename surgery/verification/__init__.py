"""Checks of results: a rewritten model against the original, and a folder against its manifest.

A model or a folder comes in. A `Certificate` goes out, the comparison of two models bit for bit, or a `Verification`,
the list of differences between a folder and its manifest.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
