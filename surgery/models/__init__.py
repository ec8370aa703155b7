"""From a name, a weights file or a callable to a model, with its weights and their provenance.

The name that the user writes comes in; an `nn.Module` goes out, as it was constructed. `get_provenance` tells where its
weights come from. Weights files are read without running code in them; `recognize_pix2pix` finds the network of pix2pix
that they belong to, and plugins recognize others. The networks themselves are in `pix2pix`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
