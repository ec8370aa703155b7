"""From a name, a weights file or a callable to a model, with its weights and their provenance.

What the user calls the model comes in; an `nn.Module` in eval mode goes out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
