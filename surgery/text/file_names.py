"""Names for files, made from any text: of images, operations, keys. Each name is one part of a path."""

from __future__ import annotations

import re
import string
import unicodedata
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, Protocol

    class TakenNames(Protocol):
        """Names that are taken at the top of a folder."""

        def find_equal(self, name: str, /) -> str | None:
            """Return the one that some file system can't tell from `name`; None if there is none."""


MAX_NAME_BYTES = 120
"""The longest name that `file_name` makes, and the longest name of an image."""
MAX_PART_BYTES = 240
"""The longest part of a path. File systems allow 255 bytes, and a number may be added."""
BATCH_FOLDER, MANIFEST_FILE, WORK_FOLDER = "batch", "manifest.json", ".surgery"
"""A run's own names in its output folder: values of whole batches, the manifest, and its temporary files."""

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._@\[\]-]+")
_SAFE = re.compile(r"[A-Za-z0-9_@\[\]-](?:[A-Za-z0-9_@\[\] .-]*[A-Za-z0-9_@\[\]-])?")
"""Most names: no dot at the beginning, and none and no space at the end."""
_NOT_ALLOWED = re.compile(r'[/\\:*?"<>|]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?$", re.IGNORECASE)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}$")


@lru_cache(maxsize=4096)
def file_name(text: str, number: int | None = None) -> str:
    """Return a file name without suffix, made from any text: ``file_name("down2.conv", 4)`` is ``"004-down2.conv"``.

    The name has only ASCII letters, digits and ``. _ - @ [ ]``, and at most `MAX_NAME_BYTES` bytes. It is not hidden,
    not a parent folder, and not a device of Windows. A text that is cut ends with a digest, so different long texts
    have different names. Other texts may have the same name; `OutputFolder.file` distinguishes them. With `number`,
    names sort as text in the order of their numbers, also above 999: ``a1000`` comes after ``999``.
    """
    name = _shorten(_avoid_reserved(_NOT_PLAIN.sub("_", text)), text, MAX_NAME_BYTES)
    return name if number is None else f"{sortable_number(number)}-{name}"


@lru_cache(maxsize=8192)
def sanitize_path_part(text: str, max_bytes: int = MAX_PART_BYTES) -> str:
    r"""Return one part of a path, made from any text; a text that every file system accepts is returned unchanged.

    Characters that can't be printed, bytes that are not UTF-8, and ``/ \ : * ? " < > |`` become underscores.
    """
    if len(text) <= max_bytes and _SAFE.fullmatch(text) and not _DEVICE.match(text):
        return text
    printable = "".join(char if char.isprintable() else "_" for char in text)
    return _shorten(_avoid_reserved(_NOT_ALLOWED.sub("_", printable)), text, max_bytes)


def sortable_number(number: int, digits: int = 3) -> str:
    """Return a number as text that sorts in the order of the numbers: ``007``, ``999``, ``a1000``, ``b10000``."""
    extra = len(str(number)) - digits
    return f"{number:0{digits}}" if extra <= 0 else f"{string.ascii_lowercase[extra - 1]}{number}"


@lru_cache(maxsize=8192)
def collision_key(name: str) -> str:
    """Return a key that is equal for names that some file system can't tell apart.

    Such names differ only in case, or in their Unicode normalization.
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class UniquePaths:
    """Assigns each requested name a safe path inside one folder, unique on every file system.

    The same request gives the same path again. If two requests would get names that some file system can't tell apart,
    or one name is requested for a file and for a folder, the later one ends with ``~2``.
    """

    def __init__(self) -> None:
        self._used: dict[str, dict[str, tuple[str, str]]] = {"": {}}
        """Folder -> `collision_key` of each name in it -> the name and the kind that were requested."""
        self._folders: dict[str, str] = {"": ""}
        """Requested folder -> the path that was assigned to it."""
        self._images: TakenNames | None = None

    def path_for(self, requested: str, kind: Literal["file", "folder", "store"] = "file") -> str:
        """Return the path for a requested name, relative to the folder and inside it, with ``/`` between its parts."""
        parent, _, last = requested.rpartition("/")
        folder = self._folders.get(parent)
        if folder is None:
            folder = self._assign_folder(parent)
        name = self._assign_name(folder, last, kind)
        return f"{folder}/{name}" if folder else name

    def reserve_folders(self, names: TakenNames) -> None:
        """Reserve names at the top level for the folders of images."""
        self._images = names

    def forget_folder(self, folder: str) -> None:
        """Free the memory for the names in a folder, to which nothing more will be written."""
        for path in [path for path in list(self._used) if path == folder or path.startswith(f"{folder}/")]:
            del self._used[path]
        for requested in [name for name, path in list(self._folders.items()) if path and path not in self._used]:
            del self._folders[requested]

    def _assign_folder(self, requested: str) -> str:
        folder = ""
        for part in requested.split("/"):
            if part not in ("", "."):
                name = self._assign_name(folder, part, "folder")
                folder = f"{folder}/{name}" if folder else name
        self._used.setdefault(folder, {})
        self._folders[requested] = folder
        return folder

    def _assign_name(self, folder: str, part: str, kind: str) -> str:
        base = name = sanitize_path_part(part)
        taken = (MANIFEST_FILE,) if kind == "folder" else (MANIFEST_FILE, BATCH_FOLDER)
        if not folder and collision_key(name) in taken:
            base = name = f"_{name}"
        number = 1
        while not self._claim(folder, name, (part, kind)):
            number += 1
            suffix = _suffix(base)
            name = f"{base.removesuffix(suffix)}~{number}{suffix}"
        return name

    def _claim(self, folder: str, name: str, request: tuple[str, str]) -> bool:
        """Return whether a name in a folder is that of a request, or was free and now is."""
        image = None if folder or self._images is None else self._images.find_equal(name)
        if image is not None:
            return request == (image, "folder")
        return self._used.setdefault(folder, {}).setdefault(collision_key(name), request) == request


def unique_image_names(stems: Iterable[str], reserved: Iterable[str] = ()) -> list[str]:
    """Return a unique, safe name for each image, not one of the `reserved` names or of the run's own names."""
    used = {collision_key(name) for name in (BATCH_FOLDER, MANIFEST_FILE, WORK_FOLDER, *reserved)}
    last_number: dict[str, int] = {}
    names = []
    for stem in stems:
        base = sanitize_path_part(stem, MAX_NAME_BYTES)
        name, number = base, last_number.get(collision_key(base), 1)
        while collision_key(name) in used:
            number += 1
            name = f"{base}-{number}"
        last_number[collision_key(base)] = number
        used.add(collision_key(name))
        names.append(name)
    return names


def escape_surrogates(text: str) -> str:
    r"""Return a text that can be encoded as UTF-8: bytes of a file name that are not UTF-8 become ``\xe9``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # half of a surrogate pair, which stands for no byte
            return text.encode("utf-8", "backslashreplace").decode()
    return text


def _avoid_reserved(name: str) -> str:
    """Replace leading dots and trailing dots and spaces by underscores; put one before an empty name or a device."""
    tail = name.rstrip(". ")  # Windows drops them
    name = tail + "_" * (len(name) - len(tail))
    head = name.lstrip(".")
    name = "_" * (len(name) - len(head)) + head
    return f"_{name}" if not name or _DEVICE.match(name) else name


def _shorten(name: str, text: str, max_bytes: int) -> str:
    """Replace the end of a long name by a digest of `text`, and keep its suffix."""
    if len(name.encode()) <= max_bytes:
        return name
    digest = "-" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    suffix = _suffix(name)
    room = max_bytes - len(digest) - len(suffix)
    start = name.removesuffix(suffix).encode()[:room].decode("utf-8", "ignore")
    return f"{start}{digest}{suffix}"


def _suffix(name: str) -> str:
    match = _SUFFIX.search(name)
    return match[0] if match else ""
