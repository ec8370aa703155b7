"""Eager runs: the user's model run by Python without a graph, and the state that it reads and leaves.

A model and inputs come in. Out go the values of its operations, the state of everything that a run may change, and
blocks in which a run leaves nothing behind. The room `tracing` compares graphs with eager runs, and so does
`verification`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
