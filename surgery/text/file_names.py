"""Names for files, made of any text: of images, operations, keys. Each is one part of a path, inside its folder."""

from __future__ import annotations

import re
import string
import unicodedata
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

LONGEST = 120
"""Bytes of a name that is made by `file_name` or of an image's name, at most."""
LONGEST_PART = 240
"""Bytes of any part of a path: file systems take 255, and a number may follow."""
BATCH, MANIFEST, WORK = "batch", "manifest.json", ".surgery"
"""What a run keeps in its folder itself: values of whole batches, the manifest and, until it ends, its work."""

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._@\[\]-]+")
_NOT_ALLOWED = re.compile(r'[/\\:*?"<>|]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?$", re.IGNORECASE)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}$")


@lru_cache(maxsize=4096)
def file_name(text: str, number: int | None = None) -> str:
    """A file's name without its suffix, made of any text: ``"down2.conv", 4`` gives ``"004-down2.conv"``.

    It has ASCII letters, digits and ``. _ - @ [ ]`` alone and at most `LONGEST` bytes, names no parent folder and no
    device of Windows, and is not hidden. What is cut ends with a digest, so that long texts that differ have names
    that differ; other texts may have one name in common, which `OutputFolder.file` tells apart. With a `number` the
    names sort by it as text, also beyond 999: ``a1000`` comes after ``999``.
    """
    name = _cut(_tame(_NOT_PLAIN.sub("_", text)), text, LONGEST)
    return name if number is None else f"{numbered(number)}-{name}"


@lru_cache(maxsize=8192)
def safe_part(text: str, longest: int = LONGEST_PART) -> str:
    r"""One part of a path, made of any text: the text itself where every file system can have a file of that name.

    What can't be printed, bytes that are no UTF-8 among it, and ``/ \ : * ? " < > |`` become underscores.
    """
    shown = "".join(char if char.isprintable() else "_" for char in text)
    return _cut(_tame(_NOT_ALLOWED.sub("_", shown)), text, longest)


def numbered(number: int, digits: int = 3) -> str:
    """A number whose text sorts as it does: ``007``, ``999``, ``a1000``, ``b10000``."""
    more = len(str(number)) - digits
    return f"{number:0{digits}}" if more <= 0 else f"{string.ascii_lowercase[more - 1]}{number}"


@lru_cache(maxsize=8192)
def folded(name: str) -> str:
    """The same for all names that some file system takes for one: in another case, or another form of Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class Names:
    """The names of what is in a folder, by what was asked for: safe, and told apart on every file system.

    The same text gives the same name again, unless a file was asked for and then a folder. Two texts that would have
    one name, of which a file system may take one for the other, have two: the second is marked with ``~2``.
    """

    def __init__(self) -> None:
        self._used: dict[str, dict[str, tuple[str, str]]] = {"": {}}
        """By folder: the folded names in it, and what each was asked for as."""
        self._folders: dict[str, str] = {"": ""}
        """By what was asked for."""

    def find(self, asked: str, kind: Literal["file", "folder", "store"] = "file") -> str:
        """The path of what is asked for, relative to the folder and inside it. ``/`` stands between its parts."""
        within, _, last = asked.rpartition("/")
        folder = self._folders.get(within)
        if folder is None:
            folder = self._folder(within)
        name = self._name(folder, last, kind)
        return f"{folder}/{name}" if folder else name

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for folders of images."""
        self._used[""] |= {folded(name): (name, "folder") for name in names}

    def release(self, folder: str) -> None:
        """Forget the names in a folder, to which nothing more will be written."""
        for known in [known for known in self._used if known == folder or known.startswith(f"{folder}/")]:
            del self._used[known]
        for asked in [asked for asked, known in self._folders.items() if known and known not in self._used]:
            del self._folders[asked]

    def _folder(self, asked: str) -> str:
        folder = ""
        for part in asked.split("/"):
            if part not in ("", "."):
                name = self._name(folder, part, "folder")
                folder = f"{folder}/{name}" if folder else name
        self._used.setdefault(folder, {})
        self._folders[asked] = folder
        return folder

    def _name(self, folder: str, part: str, kind: str) -> str:
        base = name = safe_part(part)
        if not folder and folded(name) in ((MANIFEST,) if kind == "folder" else (MANIFEST, BATCH)):
            base = name = f"_{name}"
        used = self._used.setdefault(folder, {})
        number = 1
        while used.setdefault(folded(name), (part, kind)) != (part, kind):
            number += 1
            suffix = found[0] if (found := _SUFFIX.search(base)) else ""
            name = f"{base.removesuffix(suffix)}~{number}{suffix}"
        return name


def image_names(stems: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A name for each image, unique and safe; none is `taken` or one of the run's own."""
    used = {folded(name) for name in (BATCH, MANIFEST, WORK, *taken)}
    last: dict[str, int] = {}
    names = []
    for stem in stems:
        base = safe_part(stem, LONGEST)
        name, number = base, last.get(folded(base), 1)
        while folded(name) in used:
            number += 1
            name = f"{base}-{number}"
        last[folded(base)] = number
        used.add(folded(name))
        names.append(name)
    return names


def readable(text: str) -> str:
    r"""Text that can be encoded as UTF-8: a byte of a file's name that is no UTF-8 is written ``\xe9``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # half of a pair, which stands for no byte
            return text.encode("utf-8", "backslashreplace").decode()
    return text


def _tame(name: str) -> str:
    """Not hidden, no parent folder, no dot or space at its end, which Windows drops, no device."""
    tail = name.rstrip(". ")
    name = tail + "_" * (len(name) - len(tail))
    head = name.lstrip(".")
    name = "_" * (len(name) - len(head)) + head
    return f"_{name}" if not name or _DEVICE.match(name) else name


def _cut(name: str, text: str, longest: int) -> str:
    if len(name.encode()) <= longest:
        return name
    digest = "-" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    suffix = found[0] if (found := _SUFFIX.search(name)) else ""
    room = longest - len(digest) - len(suffix)
    start = name.removesuffix(suffix).encode()[:room].decode("utf-8", "ignore")
    return f"{start}{digest}{suffix}"
