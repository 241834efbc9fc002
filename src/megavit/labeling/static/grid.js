/** A grid of thumbnails of which only those in sight exist, so that thousands scroll smoothly. */
import { make } from "./dom.js";

const SMALLEST_SIDE = 132; // pixels
const LABEL_HEIGHT = 24;
const ROWS_AROUND = 3; // rows kept above and below those in sight

export class Grid {
  /**
   * @param {{box: HTMLElement, space: HTMLElement}} elements The element that scrolls, and the one in it that is as high as all images.
   * @param {Labels} labels
   * @param {{onSelect: () => void, onOpen: (position: number) => void}} calls
   */
  constructor({ box, space }, labels, calls) {
    Object.assign(this, { box, space, labels, calls });
    this.list = [];
    this.selected = new Set(); // of images
    this.active = 0; // position in the list
    this.anchor = 0;
    this.cells = new Map(); // position -> element
    this.columns = 1;
    box.addEventListener("scroll", () => this.render(), { passive: true });
    box.addEventListener("click", (event) => this.#click(event));
    box.addEventListener("dblclick", (event) => this.#open(event));
    new ResizeObserver(() => this.#resize()).observe(box);
  }

  show(list, { keep = false } = {}) {
    const image = this.list[this.active];
    this.list = list;
    this.selected = new Set(keep ? list.filter((one) => this.selected.has(one)) : []);
    this.active = Math.max(0, keep ? list.indexOf(image) : 0);
    this.anchor = this.active;
    this.#clear();
    if (!keep) this.box.scrollTop = 0;
    this.#resize();
    this.calls.onSelect();
  }

  /** The images that a stroke is for: those selected, or else the active one. */
  get chosen() {
    if (this.selected.size) return this.list.filter((image) => this.selected.has(image));
    return this.list.length ? [this.list[this.active]] : [];
  }

  /** Moves by positions; `extend` selects what lies between. */
  move(by, extend = false) {
    this.goTo(this.active + by, extend);
  }

  goTo(position, extend = false) {
    if (!this.list.length) return;
    this.active = Math.min(this.list.length - 1, Math.max(0, position));
    if (extend) {
      const [first, last] = [Math.min(this.anchor, this.active), Math.max(this.anchor, this.active)];
      this.selected = new Set(this.list.slice(first, last + 1));
    } else {
      this.anchor = this.active;
    }
    this.#scrollTo(this.active);
    this.update();
    this.calls.onSelect();
  }

  toggle() {
    const image = this.list[this.active];
    if (!this.selected.delete(image)) this.selected.add(image);
    this.anchor = this.active;
    this.update();
    this.calls.onSelect();
  }

  /** Shows other images behind the active one. */
  replaceBehind(images) {
    const kept = this.list.slice(0, this.active + 1);
    this.list = [...kept, ...images.filter((image) => !kept.includes(image))];
    this.#clear();
    this.#resize();
  }

  select(images) {
    this.selected = new Set(images);
    this.update();
    this.calls.onSelect();
  }

  /** Moves to the first image behind the active one that is not decided, if there is one. */
  moveOn() {
    const { list, labels, active } = this;
    const behind = list.findIndex((image, position) => position >= active && !labels.isDecided(image));
    const next = behind >= 0 ? behind : list.findIndex((image) => !labels.isDecided(image));
    if (next >= 0) this.goTo(next);
  }

  get pageRows() {
    return Math.max(1, Math.floor(this.box.clientHeight / this.height));
  }

  /** Creates the cells that have come into sight, and removes the others. */
  render() {
    if (!this.height || !this.box.clientHeight) return;
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.height) - ROWS_AROUND);
    const last = Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + ROWS_AROUND;
    const [start, end] = [first * this.columns, Math.min(this.list.length, last * this.columns)];
    for (const [position, cell] of this.cells) {
      if (position < start || position >= end) {
        cell.remove();
        this.cells.delete(position);
      }
    }
    for (let position = start; position < end; position += 1) {
      if (!this.cells.has(position)) this.#create(position);
    }
    this.#mark();
  }

  /** Shows what has changed of the images in sight. */
  update() {
    for (const [position, cell] of this.cells) this.#describe(position, cell);
    this.#mark();
  }

  #create(position) {
    const image = this.list[position];
    const picture = make("img", { alt: "", decoding: "async", draggable: false, src: `thumbnails/${image}` });
    picture.addEventListener("error", () => picture.replaceWith(make("span", { className: "unreadable", textContent: "cannot be read" })));
    const frame = make("span", { className: "frame" }, picture);
    const cell = make("div", { className: "cell", id: `image-${image}`, role: "option" }, frame, make("bdi", { className: "tag" }));
    cell.setAttribute("aria-setsize", this.list.length);
    cell.setAttribute("aria-posinset", position + 1);
    cell.dataset.position = position;
    cell.style.width = `${this.width}px`;
    cell.style.height = `${this.height}px`;
    cell.style.transform = `translate(${(position % this.columns) * this.width}px, ${Math.floor(position / this.columns) * this.height}px)`;
    this.#describe(position, cell);
    this.cells.set(position, cell);
    this.space.append(cell);
  }

  #describe(position, cell) {
    const image = this.list[position];
    const decision = this.labels.describe(image);
    const suggestion = this.labels.suggestion(image);
    const name = this.labels.names[image];
    const suggested = suggestion ? `${suggestion.label}?` : "";
    cell.classList.toggle("decided", decision !== "");
    cell.classList.toggle("suggested", suggestion !== null);
    cell.lastElementChild.textContent = decision || suggested || name;
    cell.title = name;
    cell.ariaLabel = `${name}: ${decision || (suggested ? `suggested ${suggestion.label}` : "not labeled")}`;
    cell.ariaSelected = String(this.selected.has(image));
  }

  #mark() {
    for (const [position, cell] of this.cells) cell.classList.toggle("active", position === this.active);
    const cell = this.cells.get(this.active);
    if (cell) this.box.setAttribute("aria-activedescendant", cell.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  #resize() {
    if (!this.box.clientWidth) return;
    this.columns = Math.max(2, Math.floor(this.box.clientWidth / SMALLEST_SIDE));
    this.width = Math.floor(this.box.clientWidth / this.columns);
    this.height = this.width + LABEL_HEIGHT;
    this.space.style.height = `${Math.ceil(this.list.length / this.columns) * this.height}px`;
    this.#clear();
    this.render();
  }

  #clear() {
    this.cells.clear();
    this.space.replaceChildren();
  }

  #scrollTo(position) {
    const top = Math.floor(position / this.columns) * this.height;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + this.height > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + this.height - this.box.clientHeight;
    this.render();
  }

  #positionOf(event) {
    const cell = event.target.closest(".cell");
    return cell ? Number(cell.dataset.position) : null;
  }

  #click(event) {
    const position = this.#positionOf(event);
    if (position === null) return;
    this.goTo(position, event.shiftKey);
    if (!event.shiftKey) this.toggle();
  }

  #open(event) {
    const position = this.#positionOf(event);
    if (position !== null) this.calls.onOpen(position);
  }
}
