"""HTML for notebooks: tables and pictures of bounded size, in which every text is escaped."""

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
"""The rows of a table that are shown."""
MAX_PICTURES = 12
"""The activations of a list that are shown with their pictures."""
MAX_IMAGE_BYTES = 150_000
"""The size of the PNG file of an image in HTML, before it is encoded as text."""
_CELL_STYLE = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"


class Html(str):
    """A text that is HTML, which `escape_html` leaves as it is."""

    __slots__ = ()


def escape_html(text: object) -> Html:
    """Return a text as HTML, with its markup and unprintable characters escaped."""
    return text if isinstance(text, Html) else Html(html.escape(escape_unprintable(str(text))))


def image_tag(image: Image.Image, max_side: int) -> Html:
    """Return an image as an HTML tag that contains its data; a side longer than `max_side` pixels is scaled down.

    So is an image of more than `MAX_IMAGE_BYTES`.
    """
    side = min(max_side, max(image.size))
    png = encode_png(image, side)
    while len(png) > MAX_IMAGE_BYTES:
        side = side * 3 // 4
        png = encode_png(image, side)
    data = b64encode(png).decode()
    return Html(f'<img style="image-rendering:pixelated" src="data:image/png;base64,{data}">')


def encode_png(image: Image.Image, max_side: int) -> bytes:
    """Return an image as a PNG file; a side longer than `max_side` pixels is scaled down."""
    if max(image.size) > max_side:
        image = image.convert("RGB")
        image.thumbnail((max_side, max_side))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def html_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]], limit: int | None = MAX_TABLE_ROWS
) -> str:
    """Return an HTML table with the first `limit` rows, and the number of those left out; None for all rows."""
    rows = list(rows)
    lines = [f"<div>{escape_html(title)}</div>"] if title else []
    lines.append("<table>" + _row("th", header))
    lines += [_row("td", row) for row in rows[:limit]]
    lines.append("</table>")
    if limit is not None and len(rows) > limit:
        lines.append(f"<div>and {len(rows) - limit} more</div>")
    return "".join(lines)


def _row(tag: str, cells: Sequence[object]) -> str:
    return "<tr>" + "".join(f'<{tag} style="{_CELL_STYLE}">{escape_html(cell)}</{tag}>' for cell in cells) + "</tr>"
