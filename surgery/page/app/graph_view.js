// The graph on the left: nodes with thumbnails, boxes that fold, edges that can be followed. Only what is in view, and a
// screen above and below it, is in the document.
"use strict";

const OVERSCAN = 600;

const graphView = {
  /** Keys of unfolded segments, by run. @type {Map<string, Set<string>>} */ open: new Map(),
  /** @type {GraphLayout|null} */ layout: null,
  /** @type {Map<number, HTMLElement>} */ nodes: new Map(),
  /** Positions that the search and the filters leave; null for all. @type {Set<number>|null} */ matches: null,
  drawn: { top: 1, bottom: 0 },
};

function openSegments() {
  const run = currentRun();
  if (!graphView.open.has(run.id)) graphView.open.set(run.id, segmentsToOpen(graphModel(run)));
  return graphView.open.get(run.id);
}

/** Build the graph's elements once. */
function startGraph() {
  const pane = byId("graph");
  graphView.canvas = element("div", { class: "graph-canvas", role: "tree", "aria-label": "Operations in order of execution" });
  graphView.edges = svgElement("svg", { class: "edges" });
  graphView.boxes = element("div", { class: "boxes" });
  graphView.list = element("div", { class: "nodes" });
  graphView.canvas.append(graphView.boxes, graphView.edges, graphView.list);
  pane.append(graphView.canvas);
  pane.addEventListener("scroll", () => requestAnimationFrame(drawVisible), { passive: true });
  new ResizeObserver(() => layOut()).observe(pane);
  onChange(refreshGraph);
}

function refreshGraph(changed) {
  if (hasChanged(changed, "run", "image", "measure", "measuresLoaded", "folds", "threshold")) layOut();
  if (hasChanged(changed, "operation", "run")) showOperation();
  if (hasChanged(changed, "place", "pointer")) markPlace(graphView.canvas);
}

/** Lay the graph out anew, and draw what is in view. */
function layOut() {
  const pane = byId("graph");
  if (!pane.clientWidth || !surgeryPage.runs.length) return;
  graphView.layout = layOutGraph(graphModel(currentRun()), openSegments(), pane.clientWidth);
  const { width, height } = graphView.layout;
  setStyle(graphView.canvas, { width: `${Math.max(width, pane.clientWidth)}px`, height: `${height}px` });
  graphView.edges.setAttribute("width", Math.max(width, pane.clientWidth));
  graphView.edges.setAttribute("height", height);
  graphView.nodes.clear();
  graphView.list.replaceChildren();
  graphView.drawn = { top: 1, bottom: 0 };
  if (state.measure) graphView.measureEnd = measureEnd(state.measure);
  drawVisible();
}

/** Draw what is in view, unless it is drawn. */
function drawVisible() {
  const pane = byId("graph");
  const [top, bottom] = [pane.scrollTop, pane.scrollTop + pane.clientHeight];
  if (!graphView.layout || (top >= graphView.drawn.top && bottom <= graphView.drawn.bottom)) return;
  graphView.drawn = { top: top - OVERSCAN / 2, bottom: bottom + OVERSCAN / 2 };
  const [from, to] = [top - OVERSCAN, bottom + OVERSCAN];
  const { rows, boxes } = graphView.layout;
  const first = firstRowAt(rows, from);
  const wanted = new Set();
  for (let row = first; row < rows.length && rows[row].y < to; row += 1) wanted.add(row);
  for (const [row, node] of graphView.nodes) {
    if (wanted.has(row)) continue;
    node.remove();
    graphView.nodes.delete(row);
  }
  for (const row of wanted) {
    if (graphView.nodes.has(row)) continue;
    const node = makeNode(rows[row]);
    graphView.nodes.set(row, node);
    graphView.list.append(node);
  }
  graphView.boxes.replaceChildren(...boxes.filter((box) => box.y < to && box.y + box.height > from).map(makeBox));
  drawEdges(from, to);
  markPlace(graphView.canvas);
}

/** The first row whose lower end is below `y`. */
function firstRowAt(rows, y) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].y + rows[middle].height < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Fold or unfold a module. */
function toggleSegment(segment) {
  const open = openSegments();
  if (!open.delete(segment.key)) open.add(segment.key);
  layOut();
}

/** Unfold or fold all modules. */
function toggleAllSegments() {
  const open = openSegments();
  const all = allSegments(graphModel(currentRun()).root);
  const isOpen = all.every((segment) => open.has(segment.key));
  open.clear();
  if (!isOpen) for (const segment of all) open.add(segment.key);
  layOut();
  showOperation();
}

/** @returns {Segment[]} */
function allSegments(segment) {
  return segment.children.flatMap((child) => (typeof child === "number" ? [] : [child, ...allSegments(child)]));
}

/** Show an operation. The channel stays if the operation has it. */
function chooseOperation(path) {
  update({ operation: path });
}

/** Bring the chosen operation into view; modules around it are unfolded. */
function showOperation() {
  const model = graphModel(currentRun());
  const position = model.positions.get(state.operation);
  if (position === undefined) return;
  const open = openSegments();
  let isNew = false;
  for (let segment = model.around[position]; segment?.parent; segment = segment.parent) {
    if (!open.has(segment.key)) isNew = true;
    open.add(segment.key);
  }
  if (isNew || !graphView.layout) layOut();
  if (!graphView.layout) return;
  const row = graphView.layout.rows[graphView.layout.rowOf[position]];
  const pane = byId("graph");
  const margin = Math.min(90, pane.clientHeight / 4);
  if (row.y < pane.scrollTop + margin) pane.scrollTop = row.y - margin;
  else if (row.y + row.height > pane.scrollTop + pane.clientHeight - margin) pane.scrollTop = row.y + row.height + margin - pane.clientHeight;
  graphView.drawn = { top: 1, bottom: 0 };
  for (const node of graphView.nodes.values()) node.remove();
  graphView.nodes.clear();
  drawVisible();
}
