/** A prediction as elements of the page. */
import { icon, make } from "./dom.js";
import { OOD_WARNING, count, coverageText, formatNumber, percent } from "./format.js";

const MAX_SHOWN = 8; // classes of a prediction set, before the rest is folded

/**
 * @param {object} prediction As the API returns it.
 * @param {number | null} coverage That was requested.
 * @returns {DocumentFragment}
 */
export function renderPrediction(prediction, coverage) {
  const fragment = document.createDocumentFragment();
  fragment.append(renderVerdict(prediction));
  if (prediction.out_of_distribution) fragment.append(make("p", { className: "mark" }, icon("warning"), OOD_WARNING));
  if (prediction.prediction_set) fragment.append(renderSet(prediction.prediction_set, coverage));
  if (prediction.interval) {
    fragment.append(withCoverage(coverage, make("b", { textContent: prediction.interval.map(formatNumber).join(" to ") })));
  }
  if (prediction.top?.length) fragment.append(renderBars(prediction));
  return fragment;
}

function renderVerdict(prediction) {
  const line = make("p", { className: prediction.out_of_distribution ? "verdict doubtful" : "verdict" });
  if (prediction.score !== undefined) line.append(make("strong", { textContent: formatNumber(prediction.score) }));
  else if (prediction.labels === undefined) line.append(renderLabel(prediction));
  else if (prediction.labels.length) line.append(...prediction.labels.flatMap((label) => [renderLabel(label), " "]));
  else line.append(make("strong", { textContent: "None of the labels" }));
  return line;
}

function renderLabel({ label, probability }) {
  return make("span", {}, make("strong", {}, make("bdi", { textContent: label })), ` ${percent(probability)}`);
}

function withCoverage(coverage, ...what) {
  return make("p", { className: "promise" }, `With ${coverageText(coverage)} coverage: `, ...what);
}

function renderSet(members, coverage) {
  const names = (some) => some.flatMap(({ label }, i) => [i ? ", " : "", make("bdi", { textContent: label })]);
  const line = withCoverage(coverage, make("b", {}, ...names(members.slice(0, MAX_SHOWN))));
  if (members.length <= MAX_SHOWN) return line;
  const rest = members.slice(MAX_SHOWN);
  const fold = make("details", {}, make("summary", { textContent: `and ${count(rest.length, "other", "others")}` }));
  fold.append(make("p", {}, ...names(rest)));
  return make("div", { className: "long" }, line, fold);
}

function renderBars(prediction) {
  const kind = prediction.labels === undefined ? "Likeliest classes" : "Likeliest labels";
  const list = make("ol", { className: "bars", role: "list", ariaLabel: kind });
  for (const { label, probability } of prediction.top) {
    const fill = make("i");
    fill.style.width = `${100 * probability}%`;
    list.append(
      make(
        "li",
        {},
        make("bdi", { textContent: label, title: label }),
        " ",
        make("span", { className: "figure", textContent: percent(probability) }),
        make("span", { className: "bar", ariaHidden: "true" }, fill),
      ),
    );
  }
  return list;
}
