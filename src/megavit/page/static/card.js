/** One picture with what is known about it. */
import { view } from "./answer_view.js";
import { icon, make } from "./dom.js";
import { sentence } from "./words.js";

const TINY = 96; // pixels a side, below which a picture is shown as squares rather than as a blur

let made = 0;

/** Its `element` goes into the list of cards; `again`, `explain` and `remove` are called by its buttons. */
export class Card {
  /**
   * @param {{blob: Blob, name: string}} picture
   * @param {{again: (card: Card) => void, explain: (card: Card) => void, remove: (card: Card) => void}} calls
   */
  constructor({ blob, name }, calls) {
    this.blob = blob;
    this.name = name;
    this.asked = new AbortController();
    this.state = "waiting";
    this.address = URL.createObjectURL(blob);
    made += 1;
    const heading = make("h3", { id: `card-${made}` }, make("bdi", { textContent: name }));
    this.figures = make("div", { className: "figures" }, figureOf(this.address, name));
    this.body = make("div", { className: "body" });
    this.waiting = make("p", { className: "waiting", hidden: true });
    this.explainButton = button("Explain", "explain", `Explain the answer about ${name}`, () => calls.explain(this));
    this.againButton = button("Try again", "again", `Try again with ${name}`, () => calls.again(this));
    this.removeButton = button("Remove", "remove", `Remove ${name}`, () => calls.remove(this));
    this.explainButton.hidden = true;
    this.againButton.hidden = true;
    this.problem = make("p", { className: "problem", hidden: true });
    const actions = make("div", { className: "actions" }, this.explainButton, this.againButton, this.removeButton);
    const told = make("div", { className: "told" }, heading, this.body, this.waiting, this.problem, actions);
    const article = make("article", {}, this.figures, told);
    article.setAttribute("aria-labelledby", heading.id);
    this.element = make("li", {}, article);
  }

  /** It is being asked about; `text` says what is waited for. What it showed before stays until the answer is there. */
  wait(text) {
    this.state = "waiting";
    if (document.activeElement === this.againButton) this.removeButton.focus();
    this.againButton.hidden = true;
    this.explainButton.ariaDisabled = "true";
    this.problem.hidden = true;
    this.element.ariaBusy = "true";
    this.body.classList.add("stale");
    this.note(text);
    this.waiting.hidden = this.body.hasChildNodes();
  }

  /** What is said while something is waited for. */
  note(text) {
    this.waiting.textContent = text;
    this.waiting.hidden = false;
  }

  /** @param {boolean} canExplain Whether the model does. */
  show(answer, coverage, canExplain) {
    this.#settle("answered");
    this.body.replaceChildren(view(answer, coverage));
    this.explainButton.hidden = !canExplain;
    this.explainButton.ariaDisabled = null;
  }

  /** There is no answer, or no explanation, for this reason. */
  fail(reason) {
    this.#settle("failed");
    this.body.replaceChildren();
    this.explainButton.hidden = true;
    this.hideExplanation();
    this.complain(reason);
    this.againButton.hidden = false;
  }

  complain(reason) {
    this.problem.replaceChildren(icon("warning"), sentence(reason));
    this.problem.hidden = false;
  }

  explaining() {
    this.problem.hidden = true;
    this.explainButton.ariaDisabled = "true";
    this.explainButton.textContent = "Explaining …";
  }

  /** @param {string | null} png The overlay in base64, or none where it could not be had. */
  showExplanation(png) {
    this.explainButton.ariaDisabled = null;
    this.explainButton.textContent = png === null ? "Explain" : "Hide the explanation";
    if (png === null) return;
    const alt = `Explanation of ${this.name}: bright where the answer came from`;
    this.figures.append(figureOf(`data:image/png;base64,${png}`, alt, "Bright where the answer came from"));
  }

  get isExplained() {
    return this.figures.children.length > 1;
  }

  hideExplanation() {
    this.figures.children[1]?.remove();
    this.explainButton.textContent = "Explain";
  }

  /** Ends what is under way about it, and frees its picture. */
  close() {
    this.asked.abort();
    URL.revokeObjectURL(this.address);
    this.element.remove();
  }

  #settle(state) {
    this.state = state;
    this.element.ariaBusy = null;
    this.body.classList.remove("stale");
    this.waiting.hidden = true;
    this.problem.hidden = true;
    this.againButton.hidden = true;
  }
}

function button(text, kind, label, pressed) {
  const made = make("button", { type: "button", className: kind, textContent: text });
  // Not `disabled`, which would take the focus away from those who go by keyboard.
  made.addEventListener("click", () => {
    if (made.ariaDisabled !== "true") pressed();
  });
  // The words of the button come first in its name, so that it is found by what is read on it.
  made.setAttribute("aria-description", label);
  return made;
}

function figureOf(address, alt, caption = null) {
  const image = make("img", { src: address, alt, decoding: "async" });
  const frame = make("figure", {}, image);
  if (caption) frame.append(make("figcaption", { textContent: caption }));
  image.addEventListener("load", () => {
    if (Math.max(image.naturalWidth, image.naturalHeight) <= TINY) image.classList.add("pixels");
  });
  const blank = make("p", { className: "blank", textContent: "No preview" });
  image.addEventListener("error", () => image.replaceWith(blank));
  return frame;
}
