"""The decorators of pluggy under this project's name: one for specifications, one for implementations."""

from __future__ import annotations

import pluggy

PROJECT = "surgery"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
