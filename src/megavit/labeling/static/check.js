/** What `megavit check` doubts: the findings by image, and the one that is shown. */
import { getCheck, getSimilar, postCheck } from "./api.js";
import { make } from "./dom.js";
import { sentence } from "./format.js";

const POLL_MILLISECONDS = 2000;
const NEIGHBORS = 6;
const SIMILAR = 60; // images among which labeled ones are looked for
// Of these, all images but the first are in question; of the others, the first is.
const GROUPS = ["leak", "duplicate", "label_conflict"];

export class Check {
  /**
   * @param {{button: HTMLButtonElement, state: HTMLElement, finding: HTMLElement, neighbors: HTMLElement}} elements
   * @param {Labels} labels
   * @param {(findings: number) => void} onDone
   */
  constructor(elements, labels, onDone) {
    Object.assign(this, elements);
    this.labels = labels;
    this.onDone = onDone;
    this.byImage = new Map(); // index of an image -> its findings
    this.button.addEventListener("click", () => this.#start());
    this.#follow().catch(() => {});
  }

  /** The images in question, those of the most serious findings first. */
  get images() {
    return [...this.byImage.keys()];
  }

  /** Shows what is found on an image, and the images that raised the doubt with their labels. */
  async show(image) {
    const found = this.byImage.get(image) ?? [];
    this.finding.hidden = !found.length;
    this.finding.textContent = found.map(({ title, message }) => sentence(`${title}: ${message}`)).join(" ");
    this.neighbors.replaceChildren();
    this.neighbors.hidden = !found.length;
    if (!found.length) return;
    const group = found.find(({ kind }) => GROUPS.includes(kind));
    const others = group
      ? group.images.filter((other) => other !== image)
      : (await getSimilar(image, SIMILAR)).images.map(({ image: other }) => other).filter((other) => this.labels.isLabeled(other));
    this.neighbors.replaceChildren(...others.slice(0, NEIGHBORS).map((other) => this.#draw(other)));
  }

  #draw(image) {
    const label = this.labels.describe(image) || "not labeled";
    const picture = make("img", { src: `thumbnails/${image}`, alt: this.labels.names[image], title: this.labels.names[image] });
    return make("li", {}, picture, make("bdi", { textContent: label }));
  }

  async #start() {
    try {
      await postCheck();
      await this.#follow();
    } catch (error) {
      this.state.textContent = sentence(error.message);
    }
  }

  async #follow() {
    let check = await getCheck();
    while (check.state === "running") {
      this.button.disabled = true;
      this.state.textContent = `Checking the labels … ${check.line}`;
      await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
      check = await getCheck().catch(() => check);
    }
    this.button.disabled = false;
    this.state.textContent = check.state === "failed" ? check.line : "";
    if (check.state === "done") this.#take(check.findings);
  }

  #take(findings) {
    this.byImage = new Map();
    for (const finding of findings) {
      const inQuestion = GROUPS.includes(finding.kind) ? finding.images.slice(1) : finding.images.slice(0, 1);
      for (const image of inQuestion) {
        this.byImage.set(image, [...(this.byImage.get(image) ?? []), finding]);
        if (finding.suggested) this.labels.doubts.set(image, finding.suggested);
      }
    }
    this.state.textContent = findings.length ? "" : "Nothing is doubted.";
    this.onDone(this.byImage.size);
  }
}
