"""Proof: that a rewritten model is the original, and that a folder holds what its manifest says.

A model or a folder comes in; a `Certificate` or a `Verification` goes out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
