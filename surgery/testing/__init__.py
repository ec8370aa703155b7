"""Contracts of plugins, as checks for the tests of their authors.

    import ember

    from surgery.testing import check_plugin

    def test_the_plugin_keeps_its_contract() -> None:
        check_plugin(ember)

`check_plugin` checks everything that a module offers; each of the other functions checks one object of one kind. A
check calls the object with ordinary and with unusual inputs. It raises AssertionError with one line for each violation,
which names the first input that caused it. ``surgery plugins check`` prints the same lines. The contract of each kind
is in `surgery.stages` and in `surgery.plugins.hook_specifications`.
"""

from typing import Any
from warnings import warn

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_RENAMED = {"Verdict": "CheckResult", "verdicts": "run_checks"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warn(f"surgery.testing.{name} is now surgery.testing.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    return _load(name)
