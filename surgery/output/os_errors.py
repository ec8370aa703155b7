"""Errors of the operating system, in words."""

from __future__ import annotations

import errno


def describe_os_error(error: OSError) -> str:
    """Return the reason of an OSError in lower case: ``permission denied``, ``the disk is full``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return (error.strerror or str(error)).lower()
