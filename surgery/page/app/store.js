// What the page holds: the runs that its scripts hand over, and what is shown now (`state`).
// Views register with `onChange`; every change goes through `update`.
"use strict";

/**
 * @typedef {{index: number, name: string, path: string, kind: string, target?: string, shape: number[]|null,
 *   dtype: string|null, source?: {file: string, line: number, text?: string}|null, modules?: string[],
 *   remarks?: string[], picture: string[], maps?: number[]|null, tiles?: Object|null, layout?: string,
 *   layout_reason?: string, min?: number, max?: number}} OperationEntry
 * @typedef {{name: string, folder: string, source?: string, size?: number[], input?: string|null, missing?: string[],
 *   measures?: boolean, shared?: {folder: string, pictures: string[], measures?: boolean}}} ImageEntry
 * @typedef {{id: string, label: string, folder: string, images: ImageEntry[], operations: OperationEntry[],
 *   edges: number[][], model?: Object, settings?: Object, recipe?: Object|string, check?: string|null,
 *   measures?: Object, chain?: boolean}} RunEntry
 */

/** The functions that the data scripts call: run.js, colormaps.js and the scripts of pixels. */
const surgeryPage = {
  /** @type {RunEntry[]} */ runs: [],
  /** @type {Object<string, [string, string]>} */ colormapTable: {},
  /** @type {string} */ version: "",

  /** Takes the content of run.js: one or several runs. */
  run(content) {
    surgeryPage.version = content.surgery;
    surgeryPage.runs.push(...content.runs);
  },

  /** Takes the colormaps: name -> [category, hex colors of evenly spaced stops]. */
  colormaps(table) {
    Object.assign(surgeryPage.colormapTable, table);
  },

  /** Takes one PNG file in base64; the script that calls it knows which. */
  pixels(_key, text) {
    handOver(text);
  },

  /** Takes the measures of one image or batch: path -> measure -> a number for each channel, or one of all. */
  measures(_folder, table) {
    handOver(table);
  },
};

/** Script elements that are being loaded -> what takes their content. @type {Map<Element, (content: any) => void>} */
const waitingScripts = new Map();

/** Give the content of the script that runs now to what waits for it. */
function handOver(content) {
  waitingScripts.get(document.currentScript)?.(content);
}

/** The scripts of the page that could not be loaded, by their addresses. @type {string[]} */
const missingScripts = [];

addEventListener(
  "error",
  ({ target }) => {
    if (!(target instanceof HTMLScriptElement) || waitingScripts.has(target)) return;
    const address = target.getAttribute("src");
    document.body.dataset.pane = "channels";
    missingScripts.push(address);
    const text = `${address} is missing: run \`surgery view\` on the folder`;
    document.getElementById("channels").append(Object.assign(document.createElement("p"), { className: "message", textContent: text }));
  },
  true,
);

/** What is shown. `channel` is null while all channels are shown; `place` is [u, v], each from 0 to 1. */
const state = {
  run: 0,
  image: 0,
  operation: "",
  /** @type {number|null} */ channel: null,
  /** @type {[number, number]|null} */ place: null,
  /** @type {[number, number]|null} */ pointer: null,
  colormap: "drawn",
  isReversed: false,
  scale: "channel",
  clip: 0,
  aroundZero: false,
  sort: "number",
  descending: false,
  view: "single",
  otherRun: 0,
  otherImage: 0,
  cell: 0,
  query: "",
  kind: "",
  remark: "",
  measure: "",
  threshold: 0.2,
};

/** @type {((changed: Set<string>) => void)[]} */
const changeListeners = [];
let changedKeys = new Set();

/** Call `listener` with the names of what has changed, once for all changes of one event. */
function onChange(listener) {
  changeListeners.push(listener);
}

/** Change what is shown. @param {Partial<typeof state>} patch */
function update(patch) {
  for (const [key, value] of Object.entries(patch)) {
    if (state[key] === value) continue;
    if (!changedKeys.size) queueMicrotask(announceChanges);
    state[key] = value;
    changedKeys.add(key);
  }
}

function announceChanges() {
  const changed = changedKeys;
  changedKeys = new Set();
  for (const listener of changeListeners) listener(changed);
}

/** Whether any of the names is among the changed ones. */
function hasChanged(changed, ...names) {
  return names.some((name) => changed.has(name));
}

/** @returns {RunEntry} */
function currentRun() {
  return surgeryPage.runs[state.run];
}

/** @returns {ImageEntry|undefined} */
function currentImage() {
  return currentRun().images[state.image];
}

/** The entry of the operation that is shown, in one of the runs. @returns {OperationEntry|undefined} */
function operationOf(run, path = state.operation) {
  const model = graphModel(run);
  return model.operations[model.positions.get(path)];
}

/** @returns {OperationEntry|undefined} */
function currentOperation() {
  return operationOf(currentRun());
}
