"""Whether the run in a folder is the one that is asked for, so that it can go on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from surgery.output.shards import SHARD, Shard
from surgery.text import abbreviate_list, format_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PLAN = "plan"
"""The key of the head of a manifest whose run can go on."""
MERGE = "merge"
"""The key of the head of a manifest while the files of shards are brought."""
_HASH_LENGTH = 12
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
MAX_SHOWN_LENGTH = 60
"""Characters of a value in a message."""


def find_difference(found: Mapping[str, Any], asked: Mapping[str, Any], this: str = "this one") -> str | None:
    """Return in words the first difference between the heads of two manifests; None if they are of one run.

    `found` is the one in the folder, `asked` that of the run that would go on with it, which `this` names.
    """
    before, now = (dict(_properties(head)) for head in (found, asked))
    for name in {**now, **before}:
        if before.get(name) != now.get(name):
            return _describe(name, before.get(name), now.get(name), this)
    return None


def _properties(head: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what makes a run this one, by name: what decides the bytes of its files."""
    model = head.get("model")
    yield "model", (model.get("class"), model.get("source")) if isinstance(model, dict) else model
    for group in (model, *(head.get(name) for name in ("settings", "recipe", PLAN, "versions"))):
        if isinstance(group, dict):
            yield from ((name, _plain(value)) for name, value in group.items() if name not in ("class", "source"))
    shard = Shard.from_head(head)
    yield SHARD, None if shard is None else str(shard)
    yield "version of surgery", head.get("surgery")


def _plain(value: Any) -> Any:
    """Return a value without the addresses in memory that the texts of some objects have."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return _ADDRESS.sub("", value) if isinstance(value, str) else value


def _describe(name: str, before: Any, now: Any, this: str) -> str:
    if name == "model":
        return f"it is of the model {_model_name(before)}, and {this} of {_model_name(now)}"
    if name == "images":
        return f"it has {format_count(before or 0, 'image')}, and {this} {now}"
    if isinstance(before, list) and isinstance(now, list):
        return _describe_lists(name, before, now, this)
    if name.endswith("sha256"):
        before, now = (str(value)[:_HASH_LENGTH] for value in (before, now))
        what = "weights" if name.startswith("weights") else name.removesuffix("_sha256")
        return f"it has other {what} (SHA-256 {before}, and {this} {now})"
    return f"it has the {name.replace('_', ' ')} {_shorten(before)}, and {this} {_shorten(now)}"


def _describe_lists(name: str, before: list[Any], now: list[Any], this: str) -> str:
    only = {"only in it": [each for each in before if each not in now]}
    only[f"only in {this}"] = [each for each in now if each not in before]
    parts = [f"{where}: {abbreviate_list(values)}" for where, values in only.items() if values]
    return f"its {name} differ ({'; '.join(parts) or 'in their order'})"


def _model_name(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    kind, source = value
    return f"{source} ({kind})" if source else str(kind)


def _shorten(value: Any) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[: MAX_SHOWN_LENGTH - 3]}..."
