/** The buttons of the classes, with their keys and the number of images that have them. */
import { make } from "./dom.js";

const KEYS = "1234567890";

export class Classes {
  /**
   * @param {{list: HTMLElement, names: HTMLElement}} elements The list of buttons, and the names to choose from when typing.
   * @param {(name: string) => void} onChoose
   */
  constructor({ list, names }, onChoose) {
    Object.assign(this, { list, names, onChoose });
    this.buttons = new Map();
  }

  /** Shows classes, in this order, with the number of images of each. */
  show(classes, numbers) {
    for (const [position, name] of classes.entries()) {
      if (!this.buttons.has(name)) this.#add(name, KEYS[position]);
      this.buttons.get(name).querySelector(".figure").textContent = numbers.get(name) || "";
    }
  }

  /** Shows which classes the active image has, and which one is suggested for it. */
  press(names, suggested) {
    for (const [name, button] of this.buttons) {
      button.ariaPressed = String(names.includes(name));
      button.classList.toggle("suggested", name === suggested);
    }
  }

  #add(name, key) {
    const button = make("button", { type: "button" }, ...(key ? [make("kbd", { textContent: key })] : []));
    button.append(make("bdi", { textContent: name }), make("span", { className: "figure" }));
    if (key) button.setAttribute("aria-keyshortcuts", key);
    button.addEventListener("click", () => this.onChoose(name));
    this.buttons.set(name, button);
    this.list.append(make("li", {}, button));
    this.names.append(make("option", { value: name }));
  }
}
