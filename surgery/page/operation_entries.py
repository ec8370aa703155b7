"""The operations of a run for its page: those of the graph in the manifest, with facts and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_FACTS = ("layout", "layout_reason", "min", "max", "channels", "constant_channels", "mean", "std", "zeros")


class OperationList:
    """The operations in order of execution, each with the pictures that images have of it."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        graph = head.get("graph")
        graph = graph if isinstance(graph, dict) else {}
        nodes = entries(graph.get("operations"))
        edges = graph.get("edges")
        self._edges = [pair for pair in edges if _is_pair(pair, len(nodes))] if isinstance(edges, list) else []
        self._has_graph = bool(nodes)
        self._nodes: dict[str, dict[str, Any]] = {}
        """By path, with what they hold so far."""
        self._owners: dict[str, str] = {}
        """The path of an operation, by the path of another value of it: a second tensor, its gradient."""
        self._order: list[str] = []
        """The paths of the graph, by position."""
        for node in nodes:
            path = text(node.get("path"))
            self._order.append(path)
            self._nodes.setdefault(path, _node_entry(node))
        self._by_index: dict[float, list[str]] = {}
        for path, entry in self._nodes.items():
            self._by_index.setdefault(_number(entry["index"]), []).append(path)
        for summary in entries(head.get("operations")):
            self._add_facts(summary)

    def add_pictures(self, activation: Mapping[str, Any], stems: list[str]) -> None:
        """Add the pictures of an activation of one image to its operation."""
        entry = self._entry_of(activation)
        entry["picture"] += [stem for stem in stems if stem not in entry["picture"]]
        if stems and entry["maps"] is None:
            entry["maps"], entry["tiles"] = _describe_maps(activation)
        if entry["shape"] is None and (shape := _shape(activation)) is not None:
            entry["shape"], entry["dtype"] = [1, *shape], activation.get("dtype")

    def data(self) -> tuple[list[dict[str, Any]], list[tuple[int, int]] | None]:
        """Return the operations for ``run.js``, and the edges between their positions; None if these are not known."""
        others: dict[str, list[str]] = {}
        for path, owner in self._owners.items():
            others.setdefault(owner, []).append(path)
        in_order = list(dict.fromkeys(self._order)) if self._has_graph else self._paths_by_index()
        paths: list[str] = []
        for path in in_order:
            paths += [path, *others.get(path, ())]
        positions = {path: place for place, path in enumerate(paths)}
        operations = [self._nodes[path] for path in paths]
        for path, owner in self._owners.items():
            self._nodes[path]["of"] = positions[owner]
        if not self._has_graph:
            return operations, None
        edges = [(positions[self._order[start]], positions[self._order[end]]) for start, end in self._edges]
        return operations, edges + [(positions[owner], positions[path]) for path, owner in self._owners.items()]

    def _paths_by_index(self) -> list[str]:
        own = [path for path in self._nodes if path not in self._owners]
        return sorted(own, key=lambda path: (_number(self._nodes[path]["index"]), own.index(path)))

    def _add_facts(self, summary: Mapping[str, Any]) -> None:
        entry = self._entry_of(summary)
        entry |= {name: summary[name] for name in _FACTS if name in summary}
        entry["selected"] = True
        entry["remarks"] = list(_remarks(summary))
        tensors = entries(summary.get("tensors"))
        if len(tensors) == 1:
            entry["shape"], entry["dtype"] = _shape(tensors[0]), tensors[0].get("dtype")

    def _entry_of(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry of an operation, or of another value of an operation in the graph; make it if it is new."""
        path = text(described.get("path"))
        if path not in self._nodes:
            self._nodes[path] = _node_entry(described)
            owners = [
                other for other in self._by_index.get(_number(described.get("index")), ()) if path.startswith(other)
            ]
            if owners and self._has_graph:
                self._owners[path] = max(owners, key=len)
            else:
                self._order.append(path)
        return self._nodes[path]


def entries(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list; nothing for another value."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: Any) -> str:
    """Return a text, also for what should be one."""
    return value if isinstance(value, str) else str(value)


def _node_entry(node: Mapping[str, Any]) -> dict[str, Any]:
    path, kind = text(node.get("path")), text(node.get("kind", "value"))
    tensors = entries(node.get("tensors"))
    file, _, line = source.rpartition(":") if isinstance(source := node.get("source"), str) else ("", "", "")
    scopes = node.get("scopes")
    entry = {
        "name": path,
        "path": path,
        "kind": kind,
        "index": node.get("index"),
        "target": node.get("target"),
        "shape": _shape(tensors[0]) if len(tensors) == 1 else None,
        "dtype": tensors[0].get("dtype") if len(tensors) == 1 else None,
        "source": {"file": file, "line": int(line), "text": node.get("line")} if line.isdecimal() else None,
        "modules": [text(scope) for scope in scopes] if isinstance(scopes, list) else _modules(path),
        "remarks": [],
        "picture": [],
        "maps": None,
        "tiles": None,
        "selected": False,
    }
    marks = {"input": kind == "input", "output": kind == "output", "edit": path.endswith("'")}
    return entry | {name: True for name, holds in marks.items() if holds}


def _modules(path: str) -> list[str]:
    """Return the modules that the path of an operation names, for a manifest that does not list them."""
    parts = path.split(".")[:-1]
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _describe_maps(activation: Mapping[str, Any]) -> tuple[list[int] | None, dict[str, int] | None]:
    """Return the number, height and width of the maps that an activation's pictures show, and where they are."""
    files = entries(activation.get("files"))
    tiles = [each["tiles"] for each in files if isinstance(each.get("tiles"), dict)]
    if not tiles or not all(isinstance(tiles[0].get(name), int) for name in ("maps", "height", "width")):
        return None, None
    count = sum(each.get("maps", 0) for each in tiles)
    return [count, tiles[0]["height"], tiles[0]["width"]], tiles[0]


def _remarks(summary: Mapping[str, Any]) -> list[str]:
    """Return what is unusual about the values of an operation, in words."""
    constant, channels = summary.get("constant_channels"), summary.get("channels")
    remarks = ["new"] if summary.get("is_new") else []
    remarks += [f"{constant}/{channels} constant"] if constant else []
    remarks += ["NaN"] if summary.get("nan") else []
    return remarks + (["infinite"] if summary.get("inf") else [])


def _shape(described: Mapping[str, Any]) -> list[Any] | None:
    return shape if isinstance(shape := described.get("shape"), list) else None


def _is_pair(pair: Any, count: int) -> bool:
    return (
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, int) and 0 <= each < count for each in pair)
    )


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else float("inf")
