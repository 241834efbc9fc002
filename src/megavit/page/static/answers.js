/** From a model's outputs to an answer: the same as `megavit predict` gives. */

/** The coverages that can be asked for, smallest first. */
export function coveragesOf({ sets, intervals }) {
  return Object.keys(sets ?? intervals ?? {})
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * The answer about one picture.
 *
 * @param {{probabilities?: Float32Array, score?: Float32Array, distance?: Float32Array}} outputs Of the model.
 * @param {object} metadata Of the model.
 * @param {{top: number, coverage: number | null}} options
 * @returns {object} As the HTTP API gives it, without the name.
 */
export function answerOf(outputs, metadata, { top, coverage }) {
  const isScore = metadata.target === "regression";
  const answer = isScore ? ofScore(outputs, metadata, coverage) : ofLabels(outputs, metadata, top, coverage);
  if (metadata.ood_threshold !== null) answer.out_of_distribution = outputs.distance[0] > metadata.ood_threshold;
  return answer;
}

function ofScore({ score: [score] }, { intervals }, coverage) {
  if (coverage === null) return { score };
  const half = at(intervals, coverage);
  return { score, interval: [score - half, score + half] };
}

function ofLabels({ probabilities }, { target, labels, thresholds, sets }, top, coverage) {
  const order = ranked(probabilities);
  const named = (places) => places.map((place) => ({ label: labels[place], probability: probabilities[place] }));
  const likeliest = named(order.slice(0, top));
  if (target === "multilabel") {
    return { labels: named(order.filter((place) => probabilities[place] >= thresholds[place])), top: likeliest };
  }
  const answer = { ...likeliest[0], top: likeliest };
  if (coverage !== null) answer.prediction_set = named(members(probabilities, order, at(sets, coverage)));
  return answer;
}

/** Places by value, largest first; of equal ones the first comes first. */
export function ranked(values) {
  return [...values.keys()].sort((a, b) => values[b] - values[a] || a - b);
}

/** The classes whose likelier mass, the sum of what is likelier, is within their limit; likeliest first. */
function members(probabilities, order, limits) {
  let sum = 0;
  return order.filter((place) => {
    sum += probabilities[place];
    // Not the sum before it: subtracting rounds as Python's does, where the limits were measured.
    return sum - probabilities[place] <= limits[place];
  });
}

function at(byCoverage, coverage) {
  return Object.entries(byCoverage).find(([key]) => Number(key) === coverage)[1];
}
