"""From a model to its graph, by symbolic tracing with torch.fx.

A module comes in, with an example input if there is one. A graph that computes the same goes out, or a TraceError that
names the line that can't be traced.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
