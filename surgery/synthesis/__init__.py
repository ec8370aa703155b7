"""Inputs that are computed for a model: images that excite a unit as much as possible.

A traced model and an operation come in; images go out, drawn and described.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
