/** What the keys do; none of them does anything while a person types or chooses elsewhere. */

const LETTERS = {
  s: "skip",
  d: "unsure",
  x: "exclude",
  u: "undo",
  t: "type",
  n: "next",
  r: "similar",
  k: "keep",
  "?": "help",
};

export function listenForKeys(target, actions) {
  target.addEventListener("keydown", (event) => {
    if (handle(event, actions)) event.preventDefault();
  });
}

/** Does what a key stands for, and returns whether it stands for anything. */
function handle(event, actions) {
  const { key, shiftKey } = event;
  if (event.target.matches("input:not([type=radio]), select, textarea")) {
    if (key === "Escape") event.target.blur();
    return false;
  }
  if (event.altKey) return false;
  if (event.ctrlKey || event.metaKey) {
    if (key.toLowerCase() === "z") actions.undo();
    else if (key.toLowerCase() === "a") actions.selectAll();
    else return false;
    return true;
  }
  const isOnButton = event.target.matches("button");
  if (isOnButton && (key === "Enter" || key === " ")) return false;
  if (event.target.matches("[type=radio]") && key.startsWith("Arrow")) return false;
  if (/^[0-9]$/.test(key)) {
    actions.class((Number(key) + 9) % 10);
    return true;
  }
  const moves = {
    ArrowLeft: () => actions.move(-1, shiftKey),
    ArrowRight: () => actions.move(1, shiftKey),
    ArrowUp: () => actions.moveRows(-1, shiftKey),
    ArrowDown: () => actions.moveRows(1, shiftKey),
    PageUp: () => actions.movePages(-1, shiftKey),
    PageDown: () => actions.movePages(1, shiftKey),
    Home: () => actions.goTo("first", shiftKey),
    End: () => actions.goTo("last", shiftKey),
    " ": actions.toggle,
    Enter: actions.accept,
    Escape: actions.selectNone,
    g: () => actions.view("grid"),
    o: () => actions.view("single"),
  };
  const name = key.length === 1 ? key.toLowerCase() : key;
  const action = moves[name] ?? actions[LETTERS[name]];
  if (!action) return false;
  action();
  return true;
}
