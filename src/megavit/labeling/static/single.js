/** One image at a time, at full size. */

export class Single {
  /**
   * @param {{picture: HTMLImageElement, name: HTMLElement, label: HTMLElement}} elements
   * @param {Labels} labels
   */
  constructor(elements, labels) {
    Object.assign(this, elements);
    this.labels = labels;
    this.picture.addEventListener("error", () => {
      this.label.textContent = "cannot be read";
    });
  }

  /** Shows an image, and fetches the next one ahead. */
  show(image, next) {
    const name = this.labels.names[image];
    const source = new URL(`previews/${image}`, document.baseURI).href;
    if (this.picture.src !== source) this.picture.src = source;
    this.picture.alt = name;
    this.name.textContent = name;
    const suggestion = this.labels.suggestion(image);
    const share = suggestion?.probability ? ` ${Math.round(100 * suggestion.probability)}%` : "";
    const suggested = suggestion ? `${suggestion.label}?${share}` : "";
    const decision = this.labels.describe(image);
    this.label.textContent = decision && this.labels.doubts.has(image) ? `${decision}, or ${suggested}` : decision || suggested;
    if (next !== undefined) new Image().src = `previews/${next}`;
  }
}
