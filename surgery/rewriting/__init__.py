"""From graph to graph: operations are selected, and extractors are inserted after them.

A traced model and a selection come in; `insert` returns a rewritten copy that shares the model's parameters. A listener
receives each value that an extractor sees (`listening`), also in code compiled by `torch.compile`. `as_outputs` returns
a copy with the values as outputs, for `torch.export`, `torch.jit` and ONNX, and `cut` a part of a model as a module.
`replace` puts another module in the place of a leaf.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
