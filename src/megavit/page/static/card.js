/** One image with its prediction. */
import { renderPrediction } from "./prediction_view.js";
import { icon, make } from "./dom.js";
import { sentence } from "./format.js";

const MIN_SMOOTH_SIDE = 96; // pixels; smaller images are magnified as squares, not blurred

let created = 0;

/** Its `element` goes into the list of cards; its buttons call `onRetry`, `onExplain` and `onRemove`. */
export class Card {
  /**
   * @param {{blob: Blob, name: string}} image
   * @param {{onRetry: (card: Card) => void, onExplain: (card: Card) => void, onRemove: (card: Card) => void}} calls
   */
  constructor({ blob, name }, calls) {
    this.blob = blob;
    this.name = name;
    this.request = new AbortController();
    this.state = "waiting";
    this.url = URL.createObjectURL(blob);
    created += 1;
    const heading = make("h3", { id: `card-${created}` }, make("bdi", { textContent: name }));
    this.figures = make("div", { className: "figures" }, createFigure(this.url, name));
    this.body = make("div", { className: "body" });
    this.waiting = make("p", { className: "waiting", hidden: true });
    this.explainButton = button("Explain", "explain", `Explain the prediction for ${name}`, () => calls.onExplain(this));
    this.retryButton = button("Try again", "again", `Try again with ${name}`, () => calls.onRetry(this));
    this.removeButton = button("Remove", "remove", `Remove ${name}`, () => calls.onRemove(this));
    this.explainButton.hidden = true;
    this.retryButton.hidden = true;
    this.problem = make("p", { className: "problem", hidden: true });
    const actions = make("div", { className: "actions" }, this.explainButton, this.retryButton, this.removeButton);
    const details = make("div", { className: "details" }, heading, this.body, this.waiting, this.problem, actions);
    const article = make("article", {}, this.figures, details);
    article.setAttribute("aria-labelledby", heading.id);
    this.element = make("li", {}, article);
  }

  /** A prediction is on its way; `text` says what is waited for. The previous one stays until then. */
  wait(text) {
    this.state = "waiting";
    if (document.activeElement === this.retryButton) this.removeButton.focus();
    this.retryButton.hidden = true;
    this.explainButton.ariaDisabled = "true";
    this.problem.hidden = true;
    this.element.ariaBusy = "true";
    this.body.classList.add("stale");
    this.note(text);
    this.waiting.hidden = this.body.hasChildNodes();
  }

  /** Shows a text while something is waited for. */
  note(text) {
    this.waiting.textContent = text;
    this.waiting.hidden = false;
  }

  /** @param {boolean} canExplain Whether the model does. */
  show(prediction, coverage, canExplain) {
    this.#settle("predicted");
    this.body.replaceChildren(renderPrediction(prediction, coverage));
    this.explainButton.hidden = !canExplain;
    this.explainButton.ariaDisabled = null;
  }

  /** There is no prediction, for this reason. */
  fail(reason) {
    this.#settle("failed");
    this.body.replaceChildren();
    this.explainButton.hidden = true;
    this.hideExplanation();
    this.showProblem(reason);
    this.retryButton.hidden = false;
  }

  showProblem(reason) {
    this.problem.replaceChildren(icon("warning"), sentence(reason));
    this.problem.hidden = false;
  }

  waitForExplanation() {
    this.problem.hidden = true;
    this.explainButton.ariaDisabled = "true";
    this.explainButton.textContent = "Explaining …";
  }

  /** @param {string | null} png The overlay in base64; null where it failed. */
  showExplanation(png) {
    this.explainButton.ariaDisabled = null;
    this.explainButton.textContent = png === null ? "Explain" : "Hide the explanation";
    if (png === null) return;
    const alt = `Explanation of ${this.name}: bright where the prediction came from`;
    this.figures.append(createFigure(`data:image/png;base64,${png}`, alt, "Bright where the prediction came from"));
  }

  get isExplained() {
    return this.figures.children.length > 1;
  }

  hideExplanation() {
    this.figures.children[1]?.remove();
    this.explainButton.textContent = "Explain";
  }

  /** Cancels its requests, and frees its image. */
  close() {
    this.request.abort();
    URL.revokeObjectURL(this.url);
    this.element.remove();
  }

  #settle(state) {
    this.state = state;
    this.element.ariaBusy = null;
    this.body.classList.remove("stale");
    this.waiting.hidden = true;
    this.problem.hidden = true;
    this.retryButton.hidden = true;
  }
}

function button(text, kind, label, onClick) {
  const element = make("button", { type: "button", className: kind, textContent: text });
  // Not `disabled`, which would take the keyboard focus away.
  element.addEventListener("click", () => {
    if (element.ariaDisabled !== "true") onClick();
  });
  // A description, so that the button's name stays the text on it.
  element.setAttribute("aria-description", label);
  return element;
}

function createFigure(url, alt, caption = null) {
  const image = make("img", { src: url, alt, decoding: "async" });
  const frame = make("figure", {}, image);
  if (caption) frame.append(make("figcaption", { textContent: caption }));
  image.addEventListener("load", () => {
    if (Math.max(image.naturalWidth, image.naturalHeight) <= MIN_SMOOTH_SIDE) image.classList.add("pixels");
  });
  const blank = make("p", { className: "blank", textContent: "No preview" });
  image.addEventListener("error", () => image.replaceWith(blank));
  return frame;
}
