// The edges of the graph: short ones to the next node, and skips in lanes, which are followed by a click.
"use strict";

/** Draw the edges between `from` and `to` (pixels). */
function drawEdges(from, to) {
  const { rows, edges } = graphView.layout;
  const chosen = graphView.layout.rowOf[graphModel(currentRun()).positions.get(state.operation)] ?? -1;
  const drawn = [];
  for (const edge of edges) {
    const [a, b] = [rows[edge.from], rows[edge.to]];
    if (Math.max(a.y, b.y) + NODE_HEIGHT < from || Math.min(a.y, b.y) > to) continue;
    const touches = edge.from === chosen || edge.to === chosen;
    drawn.push([touches, makeEdge(edge, a, b, touches)]);
  }
  drawn.sort((a, b) => a[0] - b[0]);
  graphView.edges.replaceChildren(...drawn.map(([, made]) => made));
}

function makeEdge(edge, a, b, touches) {
  const shape = edge.isNext ? straightEdge(a, b) : skipEdge(edge, a, b);
  const group = svgElement("g", { class: `edge${edge.isNext ? "" : " is-skip"}${touches ? " is-chosen" : ""}` });
  group.append(svgElement("path", { class: "edge-line", d: shape }));
  if (!edge.isNext) {
    const tip = `M${b.x - 5} ${b.y + b.height / 2 - 3.5}l5 3.5l-5 3.5z`;
    const [from, to] = [rowName(a), rowName(b)];
    const reach = svgElement("path", { class: "edge-reach", d: shape });
    const title = svgElement("title");
    title.textContent = `${from} → ${to}: follow`;
    group.dataset.from = from;
    group.dataset.to = to;
    group.append(svgElement("path", { class: "edge-tip", d: tip }), reach, title);
    group.addEventListener("click", () => follow(edge));
  }
  return group;
}

function rowName(row) {
  return row.type === "module" ? row.segment.path : graphModel(currentRun()).operations[row.position].path;
}

function straightEdge(a, b) {
  const [x1, x2] = [a.x + 9, b.x + 9];
  const [y1, y2] = [a.y + a.height, b.y];
  const bend = Math.min(18, (y2 - y1) / 2);
  return `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
}

function skipEdge(edge, a, b) {
  const [y1, y2] = [a.y + a.height / 2 + Math.min(8, a.height / 4), b.y + b.height / 2];
  const x = edge.lane;
  const turn = Math.sign(y2 - y1) * Math.min(9, Math.abs(y2 - y1) / 2);
  return `M${a.x} ${y1}H${x + 9}Q${x} ${y1} ${x} ${y1 + turn}V${y2 - turn}Q${x} ${y2} ${x + 9} ${y2}H${b.x - 2}`;
}

/** Go to the other end of an edge. */
function follow(edge) {
  const { rows, rowOf } = graphView.layout;
  const isAtEnd = rowOf[graphModel(currentRun()).positions.get(state.operation)] === edge.to;
  const row = rows[isAtEnd ? edge.from : edge.to];
  chooseOperation(graphModel(currentRun()).operations[row.position].path);
}
