/** The labeling page: which images are shown, and what keys and buttons do with them. */
import { getQueue, getSession, getSimilar, getSuggestions } from "./api.js";
import { Check } from "./check.js";
import { Classes } from "./classes.js";
import { make } from "./dom.js";
import { Grid } from "./grid.js";
import { listenForKeys } from "./keys.js";
import { Labels } from "./labels.js";
import { showLearning } from "./progress.js";
import { Single } from "./single.js";
import { Strokes } from "./strokes.js";
import { Training } from "./training.js";
import { count, sentence } from "./format.js";

const QUEUE = 60; // images that are offered at once
const MAX_SUGGESTED = 500; // images of a list that suggestions are asked for
const SIMILAR = 60; // images that are shown as similar to one
const SIMILAR_SELECTED = 12; // of these, those that are selected at first
const REFRESH_MILLISECONDS = 2000;
const MAX_ANNOUNCED = 20; // sentences kept for screen readers

const byId = (id) => document.getElementById(id);
let labels, strokes, grid, single, classes, check;
const reviewed = new Set(); // doubted images that were decided on this page
let view = "grid";
let filter = "next";
let shownInCheck = -1; // the image whose findings are shown
let version = 0; // of what the server has learned

function announce(text) {
  byId("announcements").append(make("p", { textContent: text }));
  if (byId("announcements").children.length > MAX_ANNOUNCED) byId("announcements").firstElementChild.remove();
}

/** Gives a status, and in case of labels their names, to the chosen images. */
function decide(status, names = []) {
  const images = chosen();
  if (!images.length) return;
  if (status === "labeled" && !labels.isSingle) {
    toggleLabels(images, names);
    return;
  }
  strokes.decide(images, status, names);
  const what = labels.describe(images[0]);
  announce(images.length === 1 ? `${labels.names[images[0]]}: ${what}` : `${count(images.length, "image", "images")}: ${what}`);
  moveOn();
}

/** Adds a label to images, or takes it from them if all have it; images stay, as they may have more. */
function toggleLabels(images, names) {
  const haveAll = names.every((name) => images.every((image) => labels.labelsOf(image).includes(name)));
  const groups = new Map(); // the labels that images get -> images
  for (const image of images) {
    const own = labels.labelsOf(image);
    const updated = haveAll ? own.filter((name) => !names.includes(name)) : [...new Set([...own, ...names])].sort();
    const key = JSON.stringify(updated);
    groups.set(key, [...(groups.get(key) ?? []), image]);
  }
  for (const [key, group] of groups) strokes.decide(group, "labeled", JSON.parse(key));
  announce(`${labels.names[images[0]]}: ${labels.describe(images[0])}`);
}

/** Takes what is suggested; of an image that may have several labels, also that it has none. */
function accept() {
  const images = chosen();
  if (!labels.isSingle) {
    const open = images.filter((image) => !labels.isDecided(image));
    if (open.length) strokes.decide(open, "labeled", []);
    moveOn();
    return;
  }
  const groups = new Map();
  for (const image of images) {
    const suggestion = labels.proposal(image);
    if (suggestion) groups.set(suggestion.label, [...(groups.get(suggestion.label) ?? []), image]);
  }
  if (!groups.size) {
    announce("Nothing is suggested for this image.");
    return;
  }
  for (const [name, group] of groups) strokes.decide(group, "labeled", [name]);
  announce(`${count(images.length, "image", "images")}: ${[...groups.keys()].join(", ")}`);
  moveOn();
}

function undo() {
  const images = strokes.undo();
  if (!images.length) {
    announce("There is nothing to undo.");
    return;
  }
  const position = grid.list.indexOf(images[0]);
  if (position >= 0) grid.goTo(position);
  announce(`Undone: ${images.length === 1 ? labels.names[images[0]] : count(images.length, "image", "images")}`);
}

function chosen() {
  return view === "grid" ? grid.chosen : grid.list.slice(grid.active, grid.active + 1);
}

/** Confirms the labels of the chosen images. */
function keep() {
  const images = chosen().filter((image) => labels.isDecided(image));
  for (const image of images) {
    const { status, labels: names } = labels.decisions.get(image);
    strokes.decide([image], status, names);
  }
  announce(images.length ? `Kept: ${labels.describe(images[0])}` : "There is no label to keep.");
  if (images.length) moveOn();
}

function moveOn() {
  if (filter === "check") {
    for (const image of chosen()) {
      reviewed.add(image);
      labels.doubts.delete(image);
    }
    const next = grid.list.findIndex((image, position) => position > grid.active && !reviewed.has(image));
    grid.select([]);
    if (next >= 0) grid.goTo(next);
    else announce("This was the last one.");
    return;
  }
  grid.select([]);
  if (filter === "next" && grid.list.every((image) => labels.isDecided(image))) showNext();
  else grid.moveOn();
}

/** Asks the server for the images to label next, and shows them. */
async function showNext() {
  const { images } = await getQueue(QUEUE);
  takeSuggestions(images);
  if (filter !== "next") return; // chosen in the meantime
  showList(images.map(({ image }) => image).filter((image) => !labels.isDecided(image)));
}

/** Shows what the server has learned, and asks for its new suggestions, and in the view of one image for the next ones. */
async function onLearning(learning) {
  showLearning({ lookedAt: byId("looked-at"), bar: byId("looking"), text: byId("learned"), confused: byId("confused"), list: byId("confused-list") }, learning);
  if (learning.version === version || !grid) return;
  const isFirst = version === 0;
  version = learning.version;
  if (isFirst && filter === "next" && grid.list.length && !grid.active && !grid.selected.size && !grid.list.some((image) => labels.isDecided(image))) {
    await showNext(); // in place of random ones, which nobody has begun with
  } else if (filter === "next" && view === "single" && grid.list.length) {
    const { images } = await getQueue(QUEUE);
    takeSuggestions(images);
    grid.replaceBehind(images.map(({ image }) => image).filter((image) => !labels.isDecided(image)));
  } else {
    await suggest(grid.list);
  }
  grid.update();
  showActive();
}

async function suggest(list) {
  const open = list.filter((image) => !labels.isDecided(image)).slice(0, MAX_SUGGESTED);
  if (open.length) takeSuggestions((await getSuggestions(open)).images);
}

/** Shows the images most similar to the active one, those first selected that are not decided. */
async function showSimilar() {
  const image = grid.list[grid.active];
  if (image === undefined) return;
  const { images } = await getSimilar(image, SIMILAR);
  if (!images.length) {
    announce("The images have not been looked at yet.");
    return;
  }
  const found = images.map(({ image: other }) => other);
  filter = "similar";
  showCounts();
  byId("more").hidden = true;
  setView("grid");
  showList([image, ...found]);
  grid.select([image, ...found].filter((other) => !labels.isDecided(other)).slice(0, SIMILAR_SELECTED));
  announce(`${count(found.length, "image", "images")} similar to ${labels.names[image]}`);
}

function takeSuggestions(images) {
  for (const { image, suggested, probability } of images) {
    if (suggested === null) labels.suggestions.delete(image);
    else labels.suggestions.set(image, { label: suggested, probability });
  }
}

/** Shows the images of the filter. */
function showFiltered({ keep = false } = {}) {
  byId("more").hidden = filter !== "next";
  if (filter === "next" || filter === "similar") {
    showNext();
    return;
  }
  if (filter === "check") {
    showList(check.images, { keep });
    return;
  }
  const all = labels.names.map((_, image) => image);
  const [kind, name] = [filter.slice(0, filter.indexOf(":")), filter.slice(filter.indexOf(":") + 1)];
  const keeps = {
    all: () => true,
    open: (image) => !labels.isDecided(image),
    status: (image) => labels.decisions.get(image)?.status === name,
    class: (image) => labels.labelsOf(image).includes(name),
  }[kind];
  showList(all.filter(keeps), { keep });
}

function showList(list, options) {
  grid.show(list, options);
  if (filter !== "next") suggest(list).then(() => { grid.update(); showActive(); }).catch(() => {});
  showEmpty();
  showActive();
}

function showEmpty() {
  const isEmpty = !grid.list.length;
  byId("empty").hidden = !isEmpty;
  byId("empty").textContent = filter === "next" ? "Every image is decided. megavit train FOLDER learns from them." : "There are no such images.";
  byId("grid").hidden = isEmpty || view !== "grid";
  byId("single").hidden = isEmpty || view !== "single";
}

function showActive() {
  const { selected, list, active } = grid;
  const image = list[active];
  const number = selected.size && view === "grid" ? `${selected.size} selected of ` : "";
  byId("chosen").textContent = list.length ? `${number}${count(list.length, "image", "images")}` : "";
  byId("accept").hidden = view !== "grid" || selected.size < 2 || !labels.isSingle || !chosen().some((one) => labels.proposal(one));
  if (image === undefined) return;
  if (view === "single") single.show(image, list[active + 1]);
  if (view === "single" && image !== shownInCheck) {
    shownInCheck = image;
    check.show(image).catch(() => {});
  }
  classes.press(labels.labelsOf(image), labels.proposal(image)?.label);
}

function setView(name) {
  if (view === name) return;
  view = name;
  document.querySelector(`input[name="view"][value="${name}"]`).checked = true;
  showEmpty();
  if (view === "grid") grid.goTo(grid.active);
  showActive();
  byId(view === "grid" ? "grid" : "single").focus();
}

function showCounts() {
  const { byClass, byStatus, decided } = labels.counts();
  byId("done").textContent = `${count(byStatus.labeled, "labeled", "labeled")}, ${count(labels.names.length - decided, "left", "left")}`;
  classes.show(labels.classes, byClass);
  const options = [
    ["next", "To label next"],
    ...(check?.images.length ? [["check", `Doubts of the check (${check.images.filter((image) => !reviewed.has(image)).length})`]] : []),
    ...(filter === "similar" ? [["similar", "Similar images"]] : []),
    ["all:", `All (${labels.names.length})`],
    ["open:", `Not labeled (${labels.names.length - decided})`],
    ["status:unsure", `Not sure (${byStatus.unsure})`],
    ["status:skipped", `Skipped (${byStatus.skipped})`],
    ["status:excluded", `Not of this task (${byStatus.excluded})`],
    ...[...byClass].map(([name, number]) => [`class:${name}`, `${name} (${number})`]),
  ];
  byId("filter").replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent, selected: value === filter })));
}

function onChange(images) {
  if (!images.length) return;
  grid.update();
  showCounts();
  showActive();
}

function showTrouble(message) {
  byId("trouble").hidden = !message;
  byId("trouble-text").textContent = message ? sentence(message) : "";
}

const actions = {
  class: (number) => labels.classes[number] !== undefined && decide("labeled", [labels.classes[number]]),
  skip: () => decide("skipped"),
  unsure: () => decide("unsure"),
  exclude: () => decide("excluded"),
  accept,
  undo,
  type: () => byId("class-name").focus(),
  move: (by, extend) => grid.move(by, extend),
  moveRows: (rows, extend) => (view === "grid" ? grid.move(rows * grid.columns, extend) : grid.move(rows)),
  movePages: (pages, extend) => grid.move(pages * grid.pageRows * grid.columns, extend),
  goTo: (end, extend) => grid.goTo(end === "first" ? 0 : grid.list.length - 1, extend),
  toggle: () => view === "grid" && grid.toggle(),
  selectAll: () => view === "grid" && grid.select(grid.list),
  selectNone: () => grid.select([]),
  view: setView,
  next: () => filter === "next" && showNext(),
  similar: showSimilar,
  keep,
  help: () => byId("help").togglePopover(),
};

function listen() {
  for (const button of document.querySelectorAll("[data-status]")) button.addEventListener("click", () => decide(button.dataset.status));
  byId("undo").addEventListener("click", undo);
  byId("more").addEventListener("click", showNext);
  byId("accept").addEventListener("click", accept);
  byId("similar").addEventListener("click", showSimilar);
  byId("previous").addEventListener("click", () => grid.move(-1));
  byId("next").addEventListener("click", () => grid.move(1));
  byId("try-again").addEventListener("click", () => strokes.send());
  byId("filter").addEventListener("change", () => {
    filter = byId("filter").value;
    showFiltered();
  });
  for (const radio of document.querySelectorAll('input[name="view"]')) radio.addEventListener("change", () => setView(radio.value));
  byId("typing").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("class-name").value.trim();
    byId("class-name").value = "";
    byId(view === "grid" ? "grid" : "single").focus();
    if (name) decide("labeled", [name]);
  });
  listenForKeys(document, actions);
  addEventListener("beforeunload", (event) => {
    if (!strokes.isSaved) event.preventDefault();
  });
  setInterval(() => {
    if (!document.hidden) strokes.refresh().catch(() => {});
  }, REFRESH_MILLISECONDS);
}

async function start() {
  const session = await getSession();
  labels = new Labels(session);
  const calls = {
    onChange,
    onTrouble: showTrouble,
    onLearning: (learning) => onLearning(learning).catch(() => {}),
    onRefused: (message) => {
      showTrouble(message);
      announce(sentence(message));
    },
  };
  strokes = new Strokes(labels, calls, session.strokes);
  grid = new Grid({ box: byId("grid"), space: byId("space") }, labels, {
    onSelect: showActive,
    onOpen: (position) => {
      grid.goTo(position);
      setView("single");
    },
  });
  single = new Single({ picture: byId("picture"), name: byId("picture-name"), label: byId("picture-label") }, labels);
  check = new Check(
    { button: byId("check"), state: byId("check-state"), finding: byId("finding"), neighbors: byId("neighbors") },
    labels,
    (found) => {
      shownInCheck = -1;
      announce(`The check doubts ${count(found, "image", "images")}.`);
      if (found) filter = "check";
      showCounts();
      if (found) showFiltered();
    },
  );
  classes = new Classes({ list: byId("classes"), names: byId("class-names") }, (name) => decide("labeled", [name]));
  new Training({
    form: byId("training-form"),
    minutes: byId("minutes"),
    button: byId("train"),
    text: byId("training-state"),
    report: byId("training-report"),
  });
  byId("folder").textContent = session.folder;
  document.title = `${session.folder} · labels`;
  if (!labels.isSingle) byId("enter-help").textContent = "go on; an image without labels has none";
  await strokes.refresh();
  byId("starting").hidden = true;
  byId("work").hidden = false;
  showCounts();
  listen(); // at once, as the check may show its images before the next ones have come
  await showNext();
  if (document.activeElement === document.body) byId("grid").focus();
}

start().catch((error) => {
  byId("starting").textContent = sentence(error.message);
});
