/** From a model's outputs to a prediction, by the rules of `megavit.predict.postprocess.predictions` in Python. */

/** The coverages that can be requested, smallest first. */
export function getCoverages({ sets, intervals }) {
  return Object.keys(sets ?? intervals ?? {})
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * The prediction for one image.
 *
 * @param {{probabilities?: Float32Array, score?: Float32Array, distance?: Float32Array}} outputs Of the model.
 * @param {object} metadata Of the model.
 * @param {{top: number, coverage: number | null}} options
 * @returns {object} As the HTTP API returns it, without the name.
 */
export function makePrediction(outputs, metadata, { top, coverage }) {
  const isRegression = metadata.target === "regression";
  const prediction = isRegression
    ? predictScore(outputs, metadata, coverage)
    : predictLabels(outputs, metadata, top, coverage);
  if (metadata.ood_threshold !== null) prediction.out_of_distribution = outputs.distance[0] > Math.fround(metadata.ood_threshold);
  return prediction;
}

function predictScore({ score: [score] }, { intervals }, coverage) {
  if (coverage === null) return { score };
  const half = forCoverage(intervals, coverage);
  return { score, interval: [score - half, score + half] };
}

function predictLabels({ probabilities }, { target, labels, thresholds, sets }, top, coverage) {
  // Of equal probabilities the first comes first.
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const named = (indexes) => indexes.map((index) => ({ label: labels[index], probability: probabilities[index] }));
  const likeliest = named(order.slice(0, top));
  if (target === "multilabel") {
    return { labels: named(order.filter((index) => probabilities[index] >= thresholds[index])), top: likeliest };
  }
  const prediction = { ...likeliest[0], top: likeliest };
  if (coverage !== null) {
    prediction.prediction_set = named(predictionSet(probabilities, order, forCoverage(sets, coverage)));
  }
  return prediction;
}

/** The classes for which the probability of all likelier ones is within their limit. */
function predictionSet(probabilities, order, limits) {
  let sum = 0;
  return order.filter((index) => {
    sum += probabilities[index];
    // Not the sum before it: subtracting rounds as in Python, where the limits were measured.
    return sum - probabilities[index] <= limits[index];
  });
}

function forCoverage(table, coverage) {
  return Object.entries(table).find(([key]) => Number(key) === coverage)[1];
}
