"""Traced graphs: their operations, edges and source lines, and copies of modules that share parameters.

A `torch.fx.GraphModule` comes in, of any front end. Out of it come its operations (`operations`, `operation_nodes`),
their edges and outline, and the values that they write to (`mutated_nodes`). The room also defines what a graph is made
of: `TracedModule` with a graph for each mode, the functions that graphs call (`contexts`, `inplace`,
`autograd_functions`), and `Hazard`. It copies models and compares tensors bit for bit.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
