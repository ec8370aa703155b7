// The values at the ends of the scale: each channel's own, or one for an operation, its images or its runs; all values
// or those between two percentiles; as they are, or symmetric around zero.
"use strict";

const MAX_POOLED = 16;
const POOL_BINS = 4096;

/** @type {WeakMap<Activation, Object>} */
const pooledLimits = new WeakMap();

/** The limits of a channel's scale. `pool` holds the activations that share a scale. @returns {[number, number]} */
function limitsOf(activation, channel, pool = [activation]) {
  const isOwn = state.scale === "channel" || activation.isColor;
  const limits = isOwn ? ownLimits(activation, channel, state.clip) : sharedLimits(activation, pool);
  return state.aroundZero && !activation.isColor ? symmetric(limits) : limits;
}

function symmetric([low, high]) {
  const most = Math.max(Math.abs(low), Math.abs(high));
  return [-most, most];
}

/** The limits of one channel: its lowest and highest value, or two percentiles of its values. */
function ownLimits(activation, channel, clip) {
  if (activation.isColor || !clip) return [activation.low[channel], activation.high[channel]];
  const { histogram, count: total } = activation.summary(channel);
  const code = (share) => {
    let seen = 0;
    for (let each = 0; each <= activation.levels; each += 1) {
      seen += histogram[each];
      if (seen > share * (total - 1)) return each;
    }
    return activation.levels;
  };
  const [low, high] = [clip / 100, 1 - clip / 100].map((share) => activation.readCode(channel, code(share)).value);
  return low < high ? [low, high] : [activation.low[channel], activation.high[channel]];
}

/** The limits that several activations share. */
function sharedLimits(activation, pool) {
  const key = `${state.scale} ${state.clip} ${pool.length}`;
  const known = pooledLimits.get(activation) ?? {};
  pooledLimits.set(activation, known);
  return (known[key] ??= state.clip ? pooledPercentiles(pool, state.clip) : pooledExtremes(pool));
}

function pooledExtremes(pool) {
  let [low, high] = [Infinity, -Infinity];
  for (const each of pool) {
    for (let channel = 0; channel < each.channels; channel += 1) {
      if (each.low[channel] < low) low = each.low[channel];
      if (each.high[channel] > high) high = each.high[channel];
    }
  }
  return [low, high];
}

/** Percentiles of all values of all activations, to a 4,096th of their range. */
function pooledPercentiles(pool, clip) {
  const [low, high] = pooledExtremes(pool);
  if (!(high > low)) return [low, high];
  const bins = new Float64Array(POOL_BINS);
  let total = 0;
  for (const each of pool) {
    for (let channel = 0; channel < each.channels; channel += 1) {
      const { histogram } = each.summary(channel);
      for (let code = 0; code <= each.levels; code += 1) {
        if (!histogram[code]) continue;
        const value = each.readCode(channel, code).value;
        bins[Math.min(POOL_BINS - 1, Math.floor(((value - low) / (high - low)) * POOL_BINS))] += histogram[code];
        total += histogram[code];
      }
    }
  }
  const at = (share) => {
    let seen = 0;
    for (let bin = 0; bin < POOL_BINS; bin += 1) {
      seen += bins[bin];
      if (seen > share * (total - 1)) return low + ((bin + 0.5) / POOL_BINS) * (high - low);
    }
    return high;
  };
  return [at(clip / 100), at(1 - clip / 100)];
}

/** The activations whose values share the scale of the one that is shown: at most 16 images or runs. */
async function scalePool(activation, run, image, operation) {
  const isShared = { images: run.images.length > 1, runs: surgeryPage.runs.length > 1 }[state.scale];
  if (!isShared || activation.isDifference) return [activation];
  const wanted =
    state.scale === "images"
      ? run.images.slice(0, MAX_POOLED).map((each) => loadActivation(run, each, operation))
      : surgeryPage.runs.slice(0, MAX_POOLED).map((each) => loadOfRun(each, image.name, operation.path));
  const loaded = (await Promise.allSettled(wanted)).map((result) => result.value).filter(Boolean);
  return loaded.includes(activation) ? loaded : [activation, ...loaded];
}

/** Load an operation of a run for an image, both by their names. @returns {Promise<Activation>} */
async function loadOfRun(run, imageName, path) {
  const image = run.images.find((each) => each.name === imageName) ?? (run.images.length === 1 ? run.images[0] : null);
  const operation = operationOf(run, path);
  if (!operation) throw new UnreadablePicture(`${run.label} has no operation ${path}`);
  if (!image) throw new UnreadablePicture(`${run.label} has no image ${imageName}`);
  return loadActivation(run, image, operation);
}
