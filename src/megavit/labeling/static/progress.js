/** What the model has learned by now, in words. */
import { make } from "./dom.js";
import { count } from "./format.js";

const SOON = 10; // random images from which there is an estimate

// With few images, tenths would say more than is known.
const percent = (share) => `${Math.round(100 * share)}%`;

/**
 * Shows how good the model is, and where classes are confused; and until all images are described, how many are.
 *
 * @param {{lookedAt: HTMLElement, bar: HTMLProgressElement, text: HTMLElement, confused: HTMLElement, list: HTMLElement}} elements
 * @param {object} learning As the server describes it.
 */
export function showLearning({ lookedAt, bar, text, confused, list }, learning) {
  const { estimate, features, done, total, problem, labels } = learning;
  const isLooking = !problem && done < total;
  lookedAt.hidden = bar.hidden = !isLooking;
  if (isLooking) {
    const figures = `${done} of ${count(total, "image", "images")} described`;
    lookedAt.textContent = features ? `${figures}, to learn from.` : `Getting ready to learn: ${figures}.`;
    Object.assign(bar, { max: total, value: done });
  }
  const sentences = [];
  text.replaceChildren();
  if (problem) sentences.push(`Nothing is learned: ${problem}`);
  if (estimate?.accuracy) {
    const { value, low, high } = estimate.accuracy;
    text.append(make("strong", { textContent: `${percent(value)} right` }), " ");
    sentences.push(`${percent(low)} to ${percent(high)}, on ${count(estimate.images, "image", "images")} drawn at random.`);
    if (estimate.with_twice !== null) sentences.push(`About ${percent(estimate.with_twice)} with twice the ${estimate.labels} labels.`);
  } else if (labels) {
    sentences.push(`How good it is shows after ${SOON} random images.`);
  }
  text.append(sentences.join(" "));
  const pairs = estimate?.confused ?? [];
  confused.hidden = !pairs.length;
  list.replaceChildren(
    ...pairs.map(([label, other, images]) =>
      make("li", {}, make("bdi", { textContent: label }), " taken for ", make("bdi", { textContent: other }), ` ${images}×`),
    ),
  );
}
