"""Values in a notebook: HTML with pictures in it, of bounded size, in which every text is escaped."""

from __future__ import annotations

import html
from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

from surgery.text.characters import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL import Image

MAX_TABLE_ROWS = 60
"""So many rows of a table are shown."""
MAX_PICTURES = 12
"""So many activations of a list are shown with their picture."""
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"


class Html(str):
    """HTML as it is; any other text is escaped."""

    __slots__ = ()


def escape_html(text: object) -> Html:
    """A text as HTML."""
    return text if isinstance(text, Html) else Html(html.escape(escape_unprintable(str(text))))


def image_tag(image: Image.Image, most: int) -> Html:
    """A picture as part of a page, made smaller where a side is longer than `most` pixels."""
    data = b64encode(encode_png(image, most)).decode()
    return Html(f'<img style="image-rendering:pixelated" src="data:image/png;base64,{data}">')


def encode_png(image: Image.Image, most: int) -> bytes:
    """A PNG of a picture, made smaller where a side is longer than `most` pixels."""
    if max(image.size) > most:
        image = image.convert("RGB")
        image.thumbnail((most, most))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def html_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, of which the first `MAX_TABLE_ROWS` rows are shown."""
    known = list(rows)
    lines = [f"<div>{escape_html(title)}</div>"] if title else []
    lines.append("<table><tr>" + "".join(f'<th style="{_CELL}">{escape_html(name)}</th>' for name in header) + "</tr>")
    lines += [
        "<tr>" + "".join(f'<td style="{_CELL}">{escape_html(cell)}</td>' for cell in row) + "</tr>"
        for row in known[:MAX_TABLE_ROWS]
    ]
    lines.append("</table>")
    if len(known) > MAX_TABLE_ROWS:
        lines.append(f"<div>and {len(known) - MAX_TABLE_ROWS} more</div>")
    return "".join(lines)
