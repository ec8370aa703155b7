"""The file systems of addresses, and what their errors say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from surgery.addresses.address_text import hide_secrets
from surgery.errors import did_you_mean, first_line

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0)
"""Seconds before a call that has failed for a moment is made again."""
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may be others a moment later."""
_MOMENTARY = frozenset(
    {"ClientConnectionError", "ClientPayloadError", "ConnectionError", "HTTPClientError", "TransferEncodingError"}
)
"""Errors of aiohttp, requests and botocore, by name: they are not imported for this."""


def open_file_system(address: str) -> tuple[Any, str]:
    """Return the fsspec file system of an address, and the path in it.

    Nothing of the file is read. It is cheap to call for each file, and has to be called anew in each process and
    thread. Raises what `describe_address_error` describes.
    """
    from fsspec.core import url_to_fs

    file_system, path = url_to_fs(address)
    return file_system, path


def retry(call: Callable[[], T]) -> T:
    """Return what `call` returns; if it fails for a reason that may pass, it is called three times more, after waits.

    Such are a lost connection, a time-out, a server that is busy. Raises its last error.
    """
    for seconds in WAITS:
        try:
            return call()
        except Exception as error:
            if not _may_pass(error):
                raise
        time.sleep(seconds)
    return call()


def describe_address_error(error: BaseException, address: str) -> str:
    """Return why an address can't be read or written, in one line without the secrets of an address."""
    protocol = address.partition("://")[0].rpartition("::")[2]
    if isinstance(error, ImportError):
        return f"{protocol}:// needs {_package(protocol) or first_line(error)}"
    if isinstance(error, ValueError) and "protocol not known" in str(error).lower():
        return _explain_protocol(protocol)
    status = _status(error)
    if isinstance(error, FileNotFoundError):
        reason = _explain_missing(str(error))
    elif isinstance(error, PermissionError) or status in (401, 403):
        reason = "permission denied"
    elif status is not None:
        reason = f"the server answers {status} {getattr(error, 'message', '') or ''}".rstrip()
    elif isinstance(error, TimeoutError):
        reason = "the server does not answer in time"
    else:
        text = first_line(error)
        reason = text if text == type(error).__name__ else f"{type(error).__name__}: {text}"
    return hide_secrets(reason)


def _explain_missing(text: str) -> str:
    """Return what a file system says in words of a file that is missing, such as that its bucket is; most name it."""
    is_sentence = " " in text and "/" not in text and not text.startswith("[Errno")
    return f"{text[0].lower()}{text[1:].rstrip('.')}" if is_sentence else "there is no such file"


def _explain_protocol(protocol: str) -> str:
    from fsspec import available_protocols

    advice = did_you_mean(protocol, available_protocols())
    return f"fsspec knows no {protocol}://{advice or ', but s3://, gs://, az://, https:// and others'}"


def _package(protocol: str) -> str | None:
    """Return what to install for a protocol; None if fsspec does not know it."""
    from fsspec.registry import known_implementations

    module = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
    if module == "fsspec":
        module = "aiohttp requests" if protocol in ("http", "https") else ""
    return (
        f"{module.replace(' ', ' and ')}, which can't be imported: pip install {module.replace('_', '-')}"
        if module
        else None
    )


def _may_pass(error: BaseException) -> bool:
    if (status := _status(error)) is not None:
        return status in _BUSY
    names = {each.__name__ for each in type(error).__mro__}
    return isinstance(error, (TimeoutError, ConnectionError)) or not _MOMENTARY.isdisjoint(names)


def _status(error: BaseException) -> int | None:
    """Return the answer of a server that an error reports; None if it reports none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # of botocore
        metadata = response.get("ResponseMetadata")
        found = metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None
    else:
        found = getattr(error, "status", None) or getattr(error, "code", None)
    return found if isinstance(found, int) and 100 <= found < 600 else None
