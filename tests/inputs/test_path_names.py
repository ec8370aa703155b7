"""Names that are read from the text of a path are those of `pathlib`."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path, PurePath

import pytest

from surgery.inputs import find_images
from surgery.inputs.input_files import Labels, identity_of, label_of
from surgery.inputs.path_names import last_name, split_suffix
from surgery.text import ImageNames
from surgery.text.file_names import MAX_NAME_BYTES, sanitize_path_part, unique_image_names

TEXTS = ["".join(parts) for length in range(6) for parts in product("./a ", repeat=length)]


def test_names_stems_and_suffixes_are_those_of_pathlib() -> None:
    assert len(TEXTS) > 1000
    for text in [
        *TEXTS,
        "photos/ä.b c.png",
        "a:b.png",
        "\0.png",
        "C:a.png",
        "\\a.png",
        "a.png/",
        "//a.png",
        "\udce9.png",
    ]:
        path = PurePath(text)
        assert last_name(text) == path.name, text
        assert split_suffix(text) == (path.stem, path.suffix), text


def test_the_files_of_a_folder_are_those_of_pathlib_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.png", "B.png", "a.b.png", "a-1.png", "é.png", "a.PNG", ".hidden.png", "10.png", "9.png", ".png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("b.png")
    for name, target in (("nowhere.png", "missing"), ("to-folder.png", "folder.png"), ("round.png", "round.png")):
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path(), Path(os.pardir, tmp_path.name)):
        found = find_images(f"{folder}")
        expected = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
        assert [*found] == expected == [found[number] for number in range(len(found))]
        assert [*found.identities()] == [identity_of(path) for path in expected]
        labels = Labels(found)
        assert [*labels] == [label_of(path) for path in expected] == [labels[number] for number in range(len(labels))]
        assert [*ImageNames(labels)] == unique_image_names([path.stem for path in expected])


def test_names_that_are_kept_at_once_are_those_that_every_rule_keeps() -> None:
    from surgery.text import file_names

    texts = [
        *TEXTS,
        "con",
        "CON.png",
        "com1 .x",
        "lpt9",
        "conx",
        "a" * 120,
        "a" * 121,
        "a.",
        "a ",
        "-a",
        "[x]@1",
        "a\n",
    ]
    for text in texts:
        fast = sanitize_path_part.__wrapped__(text, MAX_NAME_BYTES)
        cleaned = "".join(char if char.isprintable() else "_" for char in text)
        cleaned = file_names._avoid_reserved(file_names._NOT_ALLOWED.sub("_", cleaned))
        assert fast == file_names._shorten(cleaned, text, MAX_NAME_BYTES), text
