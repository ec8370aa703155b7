"""Traced graphs: their operations, source lines and edges, and copies of modules that share parameters.

A `torch.fx.GraphModule` comes in, whichever front end made it; operations, copies and comparisons go out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
