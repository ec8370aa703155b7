"""What a page says without its application: a table of each run's operations, with links to the pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from surgery.text import Html, escape_html, format_count, html_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def summarize(runs: Iterable[Mapping[str, Any]]) -> Html:
    """Return the runs as HTML that needs no script."""
    return Html("".join(map(_summarize_run, runs)))


def _summarize_run(run: Mapping[str, Any]) -> str:
    images = run["images"]
    links = [_link(f"{run['folder']}{image['folder']}/", image["name"]) for image in images[:20]]
    more = f" and {len(images) - 20} more" if len(images) > 20 else ""
    folder = f"{run['folder']}{images[0]['folder']}/" if images else ""
    missing = set(images[0].get("missing", ())) if images else set()
    rows = []
    for operation in run["operations"]:
        stems = [stem for stem in operation["picture"] if stem not in missing]
        name = _link(f"{folder}{stems[0]}.png", operation["path"]) if stems else operation["path"]
        shape = "×".join(map(str, operation["shape"] or ()))
        rows.append((operation["index"], name, operation["kind"], shape, ", ".join(operation["remarks"])))
    title = f"<h2>{escape_html(run['label'])}</h2><p>{format_count(len(images), 'image')}: {', '.join(links)}{more}</p>"
    return title + html_table("", ("", "operation", "kind", "shape", "remarks"), rows, limit=None)


def _link(path: str, label: object) -> Html:
    return Html(f'<a href="{escape_html(quote(path))}">{escape_html(label)}</a>')
