/** The images and their labels, as the server has them and as this page expects them once its strokes are there. */

const STATUS_TEXT = { skipped: "skipped", unsure: "not sure", excluded: "not of this task" };

export class Labels {
  constructor({ names, target }) {
    this.names = names;
    this.isSingle = target === "classification";
    this.decisions = new Map(); // index of an image -> {status, labels, stroke}
    this.suggestions = new Map(); // index of an image -> {label, probability}
    this.doubts = new Map(); // index of an image whose label is in doubt -> the one that is suggested instead
    this.classes = [];
    this.generation = "";
    this.since = 0;
  }

  /** Takes an answer of the server, and returns the indices of the images that have changed. */
  apply({ generation, is_reset: isReset, since, classes, decisions }, pending = new Set()) {
    if (since < this.since && generation === this.generation) return []; // overtaken by a later answer
    const changed = isReset ? [...this.decisions.keys()].filter((image) => !pending.has(image)) : [];
    for (const image of changed) this.decisions.delete(image);
    for (const { image, status, labels, stroke } of decisions) {
      if (pending.has(image)) continue; // a stroke of this page is on its way
      this.decisions.set(image, { status, labels, stroke });
      changed.push(image);
    }
    Object.assign(this, { generation, since });
    this.classes = classes;
    return changed;
  }

  /** Expects a stroke to be written. */
  expect(images, status, labels, stroke) {
    for (const image of images) this.decisions.set(image, { status, labels, stroke });
    this.classes = [...new Set([...this.classes, ...labels])];
  }

  /** Expects a stroke to be undone; what was decided before is shown when the server says it. */
  expectUndo(images, stroke) {
    for (const image of images) this.decisions.set(image, { ...this.decisions.get(image), stroke });
  }

  isDecided(image) {
    return (this.decisions.get(image)?.status ?? "unlabeled") !== "unlabeled";
  }

  isLabeled(image) {
    return this.decisions.get(image)?.status === "labeled";
  }

  /** What is suggested for an image: {label, probability}, where the probability may be null; or null. */
  suggestion(image) {
    const doubt = this.doubts.get(image);
    return doubt ? { label: doubt, probability: null } : (this.suggestions.get(image) ?? null);
  }

  /** What is suggested for an image that has no label yet, or one that is in doubt; or null. */
  proposal(image) {
    return this.isDecided(image) && !this.doubts.has(image) ? null : this.suggestion(image);
  }

  labelsOf(image) {
    return this.decisions.get(image)?.labels ?? [];
  }

  seen(image) {
    return this.decisions.get(image)?.stroke ?? "";
  }

  /** What was decided on an image in words; "" if nothing was. */
  describe(image) {
    const { status, labels } = this.decisions.get(image) ?? { status: "unlabeled", labels: [] };
    if (status === "labeled") return labels.length ? labels.join(", ") : "no label";
    return STATUS_TEXT[status] ?? "";
  }

  /** The number of images of each class, and of each status. */
  counts() {
    const byClass = new Map(this.classes.map((name) => [name, 0]));
    const byStatus = { labeled: 0, skipped: 0, unsure: 0, excluded: 0 };
    for (const { status, labels } of this.decisions.values()) {
      if (status in byStatus) byStatus[status] += 1;
      for (const name of labels) byClass.set(name, (byClass.get(name) ?? 0) + 1);
    }
    const decided = Object.values(byStatus).reduce((sum, value) => sum + value, 0);
    return { byClass, byStatus, decided };
  }
}
