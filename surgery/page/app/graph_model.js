// A run's graph as the page walks through it: what comes before and after each operation, the resolution level of each,
// and the modules around them. Everything here takes linear time in operations and edges.
"use strict";

/**
 * @typedef {{key: string, path: string, label: string, start: number, end: number,
 *   children: (Segment|number)[], parent: Segment|null}} Segment  a stretch of operations in one module
 * @typedef {{operations: OperationEntry[], positions: Map<string, number>, before: number[][], after: number[][],
 *   levels: Int16Array, deepest: number, root: Segment, around: (Segment|null)[]}} GraphModel
 */

/** @type {WeakMap<RunEntry, GraphModel>} */
const graphModels = new WeakMap();

/** The graph of a run, made once. @returns {GraphModel} */
function graphModel(run) {
  let model = graphModels.get(run);
  if (!model) {
    model = makeGraphModel(run.operations, run.edges);
    graphModels.set(run, model);
  }
  return model;
}

/** @returns {GraphModel} */
function makeGraphModel(operations, edges) {
  const positions = new Map(operations.map((operation, position) => [operation.path, position]));
  const before = operations.map(() => []);
  const after = operations.map(() => []);
  for (const [from, to] of edges) {
    if (from === to || !before[to] || !after[from] || before[to].includes(from)) continue;
    before[to].push(from);
    after[from].push(to);
  }
  const levels = resolutionLevels(operations, before);
  const around = new Array(operations.length).fill(null);
  const root = moduleSegments(operations, around);
  return { operations, positions, before, after, levels, deepest: levels.reduce((a, b) => Math.max(a, b), 0), root, around };
}

/** How often the side of an operation's maps is half that of the largest maps. Unknown sizes follow their operands. */
function resolutionLevels(operations, before) {
  const sides = operations.map(mapSide);
  const largest = sides.reduce((a, b) => Math.max(a, b), 0);
  const levels = new Int16Array(operations.length);
  operations.forEach((_, position) => {
    const operands = before[position];
    if (sides[position] > 0) levels[position] = Math.round(Math.log2(largest / sides[position]));
    else if (operands.length) levels[position] = Math.max(...operands.map((each) => levels[each]));
    else levels[position] = position ? levels[position - 1] : 0;
  });
  return levels;
}

/** The side of a square with as many pixels as a map; 0 if it is not known. */
function mapSide(operation) {
  const { maps, shape, layout } = operation;
  if (layout === "vector") return shape?.length >= 3 ? 1 : 0;
  if (maps) return Math.sqrt(maps[1] * maps[2]);
  if (!shape || shape.length < 4) return 0;
  const [height, width] = layout === "channels-last" ? shape.slice(-3, -1) : shape.slice(-2);
  return Math.sqrt(height * width);
}

/** The modules as nested stretches of operations. A module of a single operation makes none. @returns {Segment} */
function moduleSegments(operations, around) {
  const root = { key: "", path: "", label: "", start: 0, end: operations.length, children: [], parent: null };
  const open = [root];
  const close = (depth, end) => {
    while (open.length - 1 > depth) {
      const segment = open.pop();
      segment.end = end;
      if (end - segment.start < 2) segment.parent.children.splice(-1, 1, ...segment.children);
    }
  };
  operations.forEach((operation, position) => {
    const scopes = modulesAround(operation);
    let depth = 0;
    while (depth < scopes.length && open[depth + 1]?.path === scopes[depth]) depth += 1;
    close(depth, position);
    for (; depth < scopes.length; depth += 1) {
      const parent = open[depth];
      const path = scopes[depth];
      const segment = { key: `${path}#${position}`, path, label: "", start: position, end: 0, children: [], parent };
      parent.children.push(segment);
      open.push(segment);
    }
    open[depth].children.push(position);
  });
  close(0, operations.length);
  nameSegments(root, around);
  return root;
}

/** Set parents and labels of what is left, and the innermost segment of each operation. */
function nameSegments(segment, around) {
  for (const child of segment.children) {
    if (typeof child === "number") {
      around[child] = segment;
      continue;
    }
    child.parent = segment;
    child.label = relativePath(child.path, segment.path);
    nameSegments(child, around);
  }
}

/** The modules that contain an operation, outermost first, without itself. */
function modulesAround(operation) {
  const own = operation.path.replace(/@\d+$/, "");
  return (operation.modules ?? []).filter((module) => module && module !== own);
}

/** A path without the module that stands around it. */
function relativePath(path, module) {
  return module && path.startsWith(`${module}.`) ? path.slice(module.length + 1) : path;
}

/** The name of an operation beside its module's name. */
function shortName(model, position) {
  return relativePath(model.operations[position].path, model.around[position]?.path ?? "");
}
