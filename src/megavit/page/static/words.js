/** Answers in words and figures. */

const SHARE = new Intl.NumberFormat("en-GB", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const WHOLE_SHARE = new Intl.NumberFormat("en-GB", { style: "percent", maximumFractionDigits: 3 });
const LARGE = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const SMALL = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 4 });
const COUNT = new Intl.NumberFormat("en-GB");

export const UNLIKE = "Unlike anything in training: this answer means little.";

/** A probability; never "0%" or "100%", as no model knows that. */
export function percent(probability) {
  if (probability < 0.0005) return "< 0.1%";
  if (probability >= 0.9995) return "> 99.9%";
  return SHARE.format(probability);
}

/** A coverage as people write it: 95%. */
export function coverageText(coverage) {
  return WHOLE_SHARE.format(coverage);
}

/** A score, to four figures. */
export function figure(value) {
  return (Math.abs(value) >= 1000 ? LARGE : SMALL).format(value);
}

/** How many of what: "1 class", "1,000 classes". */
export function count(number, one, many) {
  return `${COUNT.format(number)} ${number === 1 ? one : many}`;
}

/** A reason as a sentence: with a capital and a full stop. */
export function sentence(reason) {
  const text = reason.trim();
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

/**
 * An answer as one sentence, for those who hear the page.
 *
 * @param {object} answer As the API gives it.
 * @param {number | null} coverage That was asked for.
 */
export function spoken(answer, coverage) {
  const parts = [`${main(answer)}.`];
  if (answer.out_of_distribution) parts.push(UNLIKE);
  if (answer.prediction_set) {
    const names = answer.prediction_set.map(({ label }) => label);
    const set = names.length > 5 ? count(names.length, "class", "classes") : names.join(", ");
    parts.push(`With ${coverageText(coverage)} coverage: ${set}.`);
  }
  if (answer.interval) {
    parts.push(`With ${coverageText(coverage)} coverage: ${answer.interval.map(figure).join(" to ")}.`);
  }
  return parts.join(" ");
}

function main(answer) {
  if (answer.score !== undefined) return `score ${figure(answer.score)}`;
  if (answer.labels === undefined) return `${answer.label}, ${percent(answer.probability)}`;
  if (!answer.labels.length) return "none of the labels";
  return answer.labels.map(({ label, probability }) => `${label}, ${percent(probability)}`).join("; ");
}
