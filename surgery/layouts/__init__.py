"""How the values of an activation are read as maps: which axes are the batch, channels, height and width.

Shapes, and a graph whose operations move axes, come in; an `LayoutDecision` with its reason goes out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
