"""Runs of the user's model as it is: what each operation computes, and what the run reads and leaves outside the model.

A model and inputs come in; the values and the state of an eager run go out. Traced graphs are held against them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
