"""From a model to a traced model, by symbolic tracing with torch.fx, or else by observing it.

A module comes in, with an example input if there is one. A graph module or an observed model that computes the same
goes out, or a TraceError that names the line that can't be traced. Plain torch.fx loses or
freezes much of what a model does (in-place writes, blocks such as `no_grad`, hooks, random numbers, branches on a
type); here it is recorded, or the model is observed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
