from __future__ import annotations

import re
from importlib.resources import files

APPLICATION = {
    file.name: file.read_text("utf-8") for file in files("surgery.page").joinpath("app").iterdir() if file.is_file()
}


def test_the_page_links_every_file_of_the_application_once() -> None:
    linked = re.findall(r'(?:src|href)="page/app/([\w.]+)"', APPLICATION["index.html"])
    assert sorted(linked) == sorted(name for name in APPLICATION if name != "index.html")


def test_the_application_is_small_and_each_file_says_what_it_is_for() -> None:
    assert sum(map(len, APPLICATION.values())) < 500_000
    for name, text in APPLICATION.items():
        if name.endswith(".js") and name != "colormaps.js":
            first, second, *_ = text.splitlines()
            assert first.startswith("// ")
            assert second.startswith("// ") or second == '"use strict";'
            assert '"use strict";' in text
            assert text.count("\n") <= 300, name


def test_no_text_becomes_markup() -> None:
    for name, text in APPLICATION.items():
        if name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), (
                name
            )
