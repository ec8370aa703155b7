"""Runs side by side: the same inputs through several models, modes, seeds, dtypes or edits, operation by operation.

In come runs and images; out goes a comparison: how far the value of each operation is from that of its counterpart, how
much of this the operation adds itself, and the first operation that differs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
