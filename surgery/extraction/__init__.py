"""Runs: images go through a rewritten model, and activations go to sinks, to memory or to pictures.

`extract` takes a model, images and stages, and writes a folder with a manifest. `record` takes a rewritten model and
its inputs, and returns activations. `draw` takes a tensor and returns pictures. Each activation of `extract` passes
reader, model, sinks and manifest in this order: `sink_pipeline` has the details.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
