// Measures of channels: those of the run, from its scripts, and one number of each operation for the bars in the graph.
"use strict";

/** Measures of images: path -> measure -> numbers. @type {Map<string, Object>} */
const measureTables = new Map();
const measureLoads = new Map();

/** The names of the measures of a run. @returns {string[]} */
function measureNames(run = currentRun()) {
  return Object.keys(run.measures ?? {});
}

function measureKey(run, image) {
  return `${run.id}\n${image?.folder}`;
}

/** Load the measures of an image; `update` is called when they are there. */
function needMeasures(run, image) {
  const key = measureKey(run, image);
  if (!image?.measures || measureLoads.has(key)) return;
  const loading = loadScript(addressOf(run, "page/measures", `${image.folder}.js`)).then(
    (table) => {
      measureTables.set(key, table);
      update({ measuresLoaded: (state.measuresLoaded ?? 0) + 1 });
    },
    () => {},
  );
  measureLoads.set(key, loading);
}

/** The numbers of a measure for an operation's channels, or null. @returns {(number|null)[]|null} */
function measureNumbers(measure, path, run = currentRun(), image = currentImage()) {
  return measureTables.get(measureKey(run, image))?.[path]?.[measure] ?? null;
}

/** Mean and maximum of a measure over an operation's channels, or null. @returns {{mean: number, most: number}|null} */
function measureSummary(measure, path) {
  const numbers = (measureNumbers(measure, path) ?? []).filter((each) => each !== null);
  if (!numbers.length) return null;
  return { mean: numbers.reduce((a, b) => a + b, 0) / numbers.length, most: Math.max(...numbers) };
}

/** Measures of patterns, which say nothing of maps with fewer values than this. */
const PATTERN_MEASURES = new Set(["checkerboard", "grid", "aliasing"]);
const LEAST_VALUES = 256;

/** Whether the highest channel is above the threshold. */
function isAboveThreshold(measure, operation) {
  const summary = measureSummary(measure, operation.path);
  const isSmall = PATTERN_MEASURES.has(measure) && mapSide(operation) ** 2 < LEAST_VALUES;
  return summary !== null && !isSmall && summary.most > state.threshold;
}

/** The number at the end of a measure's bars: the largest of the run. */
function measureEnd(measure) {
  let most = state.threshold;
  for (const operation of currentRun().operations) most = Math.max(most, measureSummary(measure, operation.path)?.most ?? 0);
  return most || 1;
}

/** What a measure's unit and numbers mean, in the words of the run. */
function measureReading(measure) {
  const { unit, reading } = currentRun().measures?.[measure] ?? {};
  return [unit, reading].filter(Boolean).join("; ");
}
