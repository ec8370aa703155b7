"""From a model to an observed model: it runs the model's own Python, and its operations are seen as they return.

A module and an example come in. A copy of the module goes out, which takes extractors as a graph does and shares the
model's parameters. Any Python will do: loops over what was found, libraries, caches, flags.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
