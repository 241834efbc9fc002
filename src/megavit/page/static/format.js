/** Predictions as text. */

const PERCENT = new Intl.NumberFormat("en-GB", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const COVERAGE = new Intl.NumberFormat("en-GB", { style: "percent", maximumFractionDigits: 3 });
const LARGE = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const SMALL = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 4 });
const COUNT = new Intl.NumberFormat("en-GB");

export const OOD_WARNING = "Unlike the training images: this prediction means little.";

/** A probability; never "0%" or "100%". */
export function percent(probability) {
  if (probability < 0.0005) return "< 0.1%";
  if (probability >= 0.9995) return "> 99.9%";
  return PERCENT.format(probability);
}

/** A coverage as people write it: 95%. */
export function coverageText(coverage) {
  return COVERAGE.format(coverage);
}

/** A score, to four figures. */
export function formatNumber(value) {
  return (Math.abs(value) >= 1000 ? LARGE : SMALL).format(value);
}

/** A number with its noun: "1 class", "1,000 classes". */
export function count(number, singular, plural) {
  return `${COUNT.format(number)} ${number === 1 ? singular : plural}`;
}

/** A reason as a sentence, with a capital letter and a full stop. */
export function sentence(reason) {
  const text = reason.trim();
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

/**
 * A prediction as one sentence, for screen readers.
 *
 * @param {object} prediction As the API returns it.
 * @param {number | null} coverage That was requested.
 */
export function describe(prediction, coverage) {
  const parts = [`${describeMain(prediction)}.`];
  if (prediction.out_of_distribution) parts.push(OOD_WARNING);
  if (prediction.prediction_set) {
    const names = prediction.prediction_set.map(({ label }) => label);
    const set = names.length > 5 ? count(names.length, "class", "classes") : names.join(", ");
    parts.push(`With ${coverageText(coverage)} coverage: ${set}.`);
  }
  if (prediction.interval) {
    parts.push(`With ${coverageText(coverage)} coverage: ${prediction.interval.map(formatNumber).join(" to ")}.`);
  }
  return parts.join(" ");
}

function describeMain(prediction) {
  if (prediction.score !== undefined) return `score ${formatNumber(prediction.score)}`;
  if (prediction.labels === undefined) return `${prediction.label}, ${percent(prediction.probability)}`;
  if (!prediction.labels.length) return "none of the labels";
  return prediction.labels.map(({ label, probability }) => `${label}, ${percent(probability)}`).join("; ");
}
