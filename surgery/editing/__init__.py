"""Edits: models whose operations compute something else.

In come a traced model, selections and edits; out goes a model that computes the edited values in place of its own. An
edit is a blend, ``(1 - a) * value + a * replacement``, whose shares `a` depend on the channel, the row and the column.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
