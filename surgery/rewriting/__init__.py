"""From graph to graph: operations are selected, and extractors are inserted after them.

A traced model and a selection come in; a rewritten copy that shares the model's parameters goes out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
