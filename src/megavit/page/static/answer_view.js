/** What an answer looks like. */
import { icon, make } from "./dom.js";
import { UNLIKE, count, coverageText, figure, percent } from "./words.js";

const SHOWN = 8; // of a set of classes, before the rest is folded away

/**
 * @param {object} answer As the API gives it.
 * @param {number | null} coverage That was asked for.
 * @returns {DocumentFragment}
 */
export function view(answer, coverage) {
  const found = document.createDocumentFragment();
  found.append(verdict(answer));
  if (answer.out_of_distribution) found.append(make("p", { className: "mark" }, icon("warning"), UNLIKE));
  if (answer.prediction_set) found.append(setOf(answer.prediction_set, coverage));
  if (answer.interval) {
    found.append(promise(coverage, make("b", { textContent: answer.interval.map(figure).join(" to ") })));
  }
  if (answer.top?.length) found.append(bars(answer));
  return found;
}

function verdict(answer) {
  const line = make("p", { className: answer.out_of_distribution ? "verdict doubtful" : "verdict" });
  if (answer.score !== undefined) line.append(make("strong", { textContent: figure(answer.score) }));
  else if (answer.labels === undefined) line.append(named(answer));
  else if (answer.labels.length) line.append(...answer.labels.flatMap((label) => [named(label), " "]));
  else line.append(make("strong", { textContent: "None of the labels" }));
  return line;
}

function named({ label, probability }) {
  return make("span", {}, make("strong", {}, make("bdi", { textContent: label })), ` ${percent(probability)}`);
}

function promise(coverage, ...what) {
  return make("p", { className: "promise" }, `With ${coverageText(coverage)} coverage: `, ...what);
}

function setOf(members, coverage) {
  const names = (some) => some.flatMap(({ label }, i) => [i ? ", " : "", make("bdi", { textContent: label })]);
  const line = promise(coverage, make("b", {}, ...names(members.slice(0, SHOWN))));
  if (members.length <= SHOWN) return line;
  const rest = members.slice(SHOWN);
  const fold = make("details", {}, make("summary", { textContent: `and ${count(rest.length, "other", "others")}` }));
  fold.append(make("p", {}, ...names(rest)));
  return make("div", { className: "long" }, line, fold);
}

function bars(answer) {
  const kind = answer.labels === undefined ? "Likeliest classes" : "Likeliest labels";
  const list = make("ol", { className: "bars", role: "list", ariaLabel: kind });
  for (const { label, probability } of answer.top) {
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
