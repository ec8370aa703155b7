// Measures of channels: those of the run, from its scripts, and one number of each operation for the bars in the graph.
"use strict";

/** Measures of images and batches by `measureKey`: path -> measure -> numbers; empty while they load. @type {Map<string, Object>} */
const measureTables = new Map();

/** The names of the measures of the run. @returns {string[]} */
function measureNames() {
  return Object.keys(currentRun().measures ?? {});
}

function measureKey(run, { folder }) {
  return `${run.id}\n${folder}`;
}

/** What has measures of an image: itself, and the batch whose values it shares. */
function measuredOf(image) {
  return [image, image?.shared].filter((each) => each?.measures);
}

/** Load the measures of an image; `update` is called when they are there. */
function needMeasures(run, image) {
  for (const each of measuredOf(image)) {
    const key = measureKey(run, each);
    if (measureTables.has(key)) continue;
    measureTables.set(key, {});
    loadScript(addressOf(run, "page/measures", `${each.folder}.js`)).then(
      (table) => {
        measureTables.set(key, table);
        update({ measuresLoaded: (state.measuresLoaded ?? 0) + 1 });
      },
      () => {},
    );
  }
}

/** The numbers of a measure for an operation's channels, or null. @returns {(number|null)[]|null} */
function measureNumbers(measure, path) {
  const run = currentRun();
  const tables = measuredOf(currentImage()).map((each) => measureTables.get(measureKey(run, each)));
  return tables.find((table) => table?.[path])?.[path][measure] ?? null;
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
