"""How values are read as maps: which of their axes are the batch, the channels, the height and the width.

`AxisTracker` runs a model and tracks the meaning of each value's axes. `decide_layout` takes a shape, these axes
and the layout that the user requested, and returns a `LayoutDecision` with its reason. `make_layout_rules` and
`parse_layouts` turn requests from Python and from the command line into rules.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
