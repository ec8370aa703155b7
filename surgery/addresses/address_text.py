"""What of an address is shown, and what tells it from others: never its passwords and tokens."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
"""What is shown in place of a secret."""
_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")
_IN_TEXT = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
_USER = re.compile(r"(?<=://)[^/?#]*@")
_CREDENTIAL = re.compile(
    r"(?i)x-(amz|goog|ms|oss|cos)-|.*(token|sig|secret|pass|pwd|auth|cred|key|session|code|jwt|expires|policy)"
    r"|(st|se|sp|sv|sr|ss|srt|spr|sip|skoid|sktid|skt|ske|sks|skv)$"
)
"""The names of parameters that sign a request: those of S3, Google, Azure and others."""
_PLAIN_VALUE = re.compile(r"\d{0,9}")
_WEB = ("http://", "https://")
_LOCAL = ("file://", "local://")


def is_address(name: object) -> bool:
    """Return whether a name is an address, such as ``s3://bucket/a.png`` or ``simplecache::https://host/a.png``."""
    return isinstance(name, str) and _ADDRESS.match(name) is not None


def local_path(address: str) -> str | None:
    """Return the path of a file of this machine that an address names, ``file:///photos/a.png``; None for others."""
    if not address.lower().startswith(_LOCAL):
        return None
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem._strip_protocol(address)  # type: ignore[no-any-return] # noqa: SLF001 - fsspec's own rule


def address_name(address: str) -> str:
    """Return the last part of the path of an address, without query: ``a.png``. Empty if that ends with ``/``."""
    path = _split_query(next((link for link in address.split("::") if "://" in link), address))[0]
    name = path.partition("://")[2].rpartition("/")[2]
    return unquote(name) if path.lower().startswith(_WEB) else name


def hide_secrets(text: str) -> str:
    """Return a text with addresses in which users and passwords are left out, and values of a query are ``***``.

    Numbers in a query stay, unless the name of their parameter is that of a credential.
    """
    return _IN_TEXT.sub(lambda found: _hide_in_address(found[0]), text)


def address_identity(address: str) -> str:
    """Return what tells an address from others: without user, password, and the parameters that sign a request.

    It may have other parts of a query that are not to be shown, and is only to be hashed.
    """
    path, query = _split_query(_USER.sub("", address))
    kept = [each for each in query.split("&") if each and not _CREDENTIAL.match(each.partition("=")[0])]
    return f"{path}?{'&'.join(kept)}" if kept else path


def _hide_in_address(address: str) -> str:
    path, query = _split_query(_USER.sub("", address))
    path = path.partition("#")[0] if path.lower().startswith(_WEB) else path
    return f"{path}?{'&'.join(map(_hide_value, query.split('&')))}" if query else path


def _hide_value(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return HIDDEN
    is_plain = _PLAIN_VALUE.fullmatch(value) and not _CREDENTIAL.match(name)
    return parameter if is_plain else f"{name}={HIDDEN}"


def _split_query(address: str) -> tuple[str, str]:
    """Return an address without its query, and the query. Elsewhere than on the web a question mark may be a letter."""
    path, _, query = address.partition("?")
    if not address.lower().startswith(_WEB) and "=" not in query:
        return address, ""
    return path, query.partition("#")[0]
