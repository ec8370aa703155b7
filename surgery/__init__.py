"""See inside a trained model: trace it, select operations, insert extractors, draw what passes.

Every name here is imported when it is first used, so that a plugin or ``surgery --help`` does not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
