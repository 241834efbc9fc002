/** The page: each image gets a card, and the backend predicts what it shows. */
import * as backend from "./backend.js";
import { createQueue, retryWhenBusy } from "./retry.js";
import { useCamera } from "./camera.js";
import { Card } from "./card.js";
import { make } from "./dom.js";
import { Startup } from "./startup.js";
import { listen } from "./image_inputs.js";
import { count, coverageText, describe, sentence } from "./format.js";

const MAX_CONCURRENT_REQUESTS = 4;
const TOP = 5;
const DEFAULT_COVERAGE = 0.95;
const MAX_ANNOUNCED = 20; // sentences kept for screen readers

const byId = (id) => document.getElementById(id);
const enqueue = createQueue(MAX_CONCURRENT_REQUESTS);
const cards = [];
let models = [];
let model = null;
let coverage = null;

const startup = new Startup({
  open: (options) => backend.open(options),
  onOpen: (result) => {
    if (!models.length) {
      models = result.models;
      offerModels();
    }
    cards.filter((card) => card.state === "failed").forEach(predict);
  },
});

function announce(text) {
  byId("announcements").append(make("p", { textContent: text }));
  if (byId("announcements").children.length > MAX_ANNOUNCED) byId("announcements").firstElementChild.remove();
}

/** Shows a message that belongs to no image. */
function showNotice(text) {
  byId("notice").textContent = text;
}

function offerModels() {
  if (!models.length) {
    startup.fail("There is no model. Start megavit serve with one, then load this page again.");
    return;
  }
  byId("ready").hidden = false;
  byId("model-choice").hidden = models.length === 1;
  byId("model").replaceChildren(...models.map(({ name }) => make("option", { value: name, textContent: name })));
  byId("model").addEventListener("change", () => choose(byId("model").value));
  choose(models[0].name);
}

function choose(name) {
  model = models.find((candidate) => candidate.name === name);
  document.title = `${model.name} · megavit`;
  showModel();
  offerCoverages();
  cards.forEach(predict);
}

function showModel() {
  const { name, target, labels } = model;
  byId("about").hidden = false;
  byId("about-model").textContent = models.length === 1 ? name : "";
  const isRegression = target === "regression";
  byId("about-labels").hidden = isRegression;
  byId("about-score").hidden = !isRegression;
  if (isRegression) return;
  const nouns = target === "multilabel" ? ["label", "labels"] : ["class", "classes"];
  byId("how-many").textContent = count(labels.length, ...nouns);
  byId("labels").ariaLabel = nouns[1];
  byId("labels").replaceChildren(...labels.map((label) => make("li", {}, make("bdi", { textContent: label }))));
}

function offerCoverages() {
  const offered = model.coverages;
  byId("coverage-choice").hidden = !offered.length;
  if (!offered.includes(coverage)) coverage = offered.includes(DEFAULT_COVERAGE) ? DEFAULT_COVERAGE : null;
  const claim = model.target === "regression" ? "score is in the range given" : "class is among those given";
  byId("coverage-note").textContent = `How often the true ${claim}, for images like those of training`;
  byId("coverages").replaceChildren(
    ...[null, ...offered].map((value) => {
      const text = value === null ? "None" : coverageText(value);
      const radio = make("input", { type: "radio", name: "coverage", checked: value === coverage });
      radio.addEventListener("change", () => {
        coverage = value;
        cards.forEach(predict);
      });
      return make("label", {}, radio, make("span", { textContent: text }));
    }),
  );
}

function add(files) {
  if (!model) return;
  showNotice("");
  const added = files.map((file) => new Card({ blob: file, name: file.name }, { onRetry: predict, onExplain: explain, onRemove: remove }));
  cards.unshift(...added);
  byId("cards").prepend(...added.map((card) => card.element));
  showCards();
  added.forEach(predict);
}

function showCards() {
  byId("predictions").hidden = !cards.length;
  byId("clear").hidden = cards.length < 2;
  byId("add").classList.toggle("compact", cards.length > 0);
}

async function predict(card) {
  card.request.abort();
  card.request = new AbortController();
  const { signal } = card.request;
  const [currentModel, currentCoverage] = [model, coverage];
  card.hideExplanation();
  card.wait("Looking …");
  try {
    const prediction = await request(card, currentModel, { coverage: currentCoverage }, signal);
    card.show(prediction, currentCoverage, currentModel.explanation);
    announce(`${card.name}: ${describe(prediction, currentCoverage)}`);
  } catch (error) {
    if (signal.aborted) return;
    card.fail(error.message);
    announce(`${card.name}: ${sentence(error.message)}`);
    if (error.needsKey) startup.askForKey(error.message);
  }
}

async function explain(card) {
  if (card.isExplained) {
    card.hideExplanation();
    return;
  }
  const { signal } = card.request;
  card.waitForExplanation();
  try {
    const { explanation } = await request(card, model, { explanation: true }, signal);
    card.showExplanation(explanation);
    announce(`${card.name}: the explanation is shown.`);
  } catch (error) {
    if (signal.aborted) return;
    card.showExplanation(null);
    card.showProblem(error.message);
    announce(`${card.name}: ${sentence(error.message)}`);
    if (error.needsKey) startup.askForKey(error.message);
  }
}

/** Asks the backend, in turn, and again where it is busy. */
function request(card, currentModel, options, signal) {
  const once = () => backend.predict(currentModel.name, card.blob, { top: TOP, ...options, signal });
  const onWait = (error) => {
    const wait = `${sentence(error.message)} Trying again in ${count(error.retryAfter, "second", "seconds")}.`;
    card.note(wait);
    announce(`${card.name}: ${wait}`);
  };
  return enqueue(() => retryWhenBusy(once, { onWait, signal }));
}

function remove(card) {
  const index = cards.indexOf(card);
  cards.splice(index, 1);
  card.close();
  showCards();
  (cards[index] ?? cards.at(-1))?.removeButton.focus();
  if (!cards.length) byId("choose").focus();
}

byId("clear").addEventListener("click", () => {
  cards.splice(0).forEach((card) => card.close());
  showCards();
  byId("choose").focus();
});

const onError = (text) => {
  showNotice(text);
  announce(text);
};
listen({ button: byId("choose"), input: byId("file"), onFiles: add, onError });
useCamera({
  opener: byId("use-camera"),
  panel: byId("camera"),
  video: byId("video"),
  shutter: byId("shutter"),
  closer: byId("close-camera"),
  onFiles: add,
  onError,
});
startup.start();
