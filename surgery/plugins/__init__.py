"""Plugins: what extends the project, and the built-in objects, which are offered in the same way.

In come names with options, such as ``grid:columns=8``; out go the objects that plugins offer under these names. The
room finds plugins, asks the user to trust them, imports them when they are needed, calls their hooks, and writes new
ones. The specifications of the hooks are in `surgery.plugins.hook_specifications`. No other room imports pluggy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
