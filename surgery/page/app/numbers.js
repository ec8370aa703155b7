// Numbers and shapes as text.
"use strict";

/** A number with `digits` significant digits, a real minus sign, and no more zeros than needed. */
function formatNumber(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-4 ? value.toExponential(digits - 1) : Number(value.toPrecision(digits)).toString();
  return text.replaceAll("-", "−");
}

/** A value with its error: as many decimals as the error's first two digits need. */
function formatWithError(value, error) {
  if (!Number.isFinite(value) || !(error > 0)) return formatNumber(value, 6);
  const decimals = Math.max(0, Math.min(12, 1 - Math.floor(Math.log10(error))));
  return `${value.toFixed(decimals)} ± ${error.toFixed(decimals)}`.replaceAll("-", "−");
}

/** A shape such as 1×3×256×256. */
function formatShape(shape) {
  return shape ? shape.join("×") || "scalar" : "–";
}

/** A number with its noun, in the plural where it belongs. */
function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}
