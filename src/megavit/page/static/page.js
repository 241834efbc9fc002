/** The page: pictures come in, each gets a card, and the answerer is asked about it. */
import * as answerer from "./answerer.js";
import { patiently, queue } from "./asking.js";
import { useCamera } from "./camera.js";
import { Card } from "./card.js";
import { make } from "./dom.js";
import { Starting } from "./starting.js";
import { listen } from "./ways_in.js";
import { count, coverageText, sentence, spoken } from "./words.js";

const MAX_CONCURRENT_REQUESTS = 4;
const TOP = 5;
const USUAL_COVERAGE = 0.95;
const SAID = 20; // sentences that are kept for those who hear the page

const part = (id) => document.getElementById(id);
const asking = queue(MAX_CONCURRENT_REQUESTS);
const cards = [];
let models = [];
let model = null;
let coverage = null;

const starting = new Starting({
  open: (options) => answerer.open(options),
  opened: (found) => {
    if (!models.length) {
      models = found.models;
      offerModels();
    }
    cards.filter((card) => card.state === "failed").forEach(ask);
  },
});

function say(text) {
  part("said").append(make("p", { textContent: text }));
  if (part("said").children.length > SAID) part("said").firstElementChild.remove();
}

/** Something that belongs to no picture. */
function tell(text) {
  part("notice").textContent = text;
}

function offerModels() {
  if (!models.length) {
    starting.fail("There is no model to ask. Start megavit serve with one, then load this page again.");
    return;
  }
  part("ready").hidden = false;
  part("model-choice").hidden = models.length === 1;
  part("model").replaceChildren(...models.map(({ name }) => make("option", { value: name, textContent: name })));
  part("model").addEventListener("change", () => choose(part("model").value));
  choose(models[0].name);
}

function choose(name) {
  model = models.find((one) => one.name === name);
  document.title = `${model.name} · megavit`;
  describe();
  offerCoverages();
  cards.forEach(ask);
}

function describe() {
  const { name, target, labels } = model;
  part("about").hidden = false;
  part("about-model").textContent = models.length === 1 ? name : "";
  const isScore = target === "regression";
  part("about-labels").hidden = isScore;
  part("about-score").hidden = !isScore;
  if (isScore) return;
  const words = target === "multilabel" ? ["label", "labels"] : ["class", "classes"];
  part("how-many").textContent = count(labels.length, ...words);
  part("labels").ariaLabel = words[1];
  part("labels").replaceChildren(...labels.map((label) => make("li", {}, make("bdi", { textContent: label }))));
}

function offerCoverages() {
  const offered = model.coverages;
  part("coverage-choice").hidden = !offered.length;
  if (!offered.includes(coverage)) coverage = offered.includes(USUAL_COVERAGE) ? USUAL_COVERAGE : null;
  const promise = model.target === "regression" ? "score is in the range given" : "class is among those given";
  part("coverage-note").textContent = `How often the true ${promise}, for pictures like those of training`;
  part("coverages").replaceChildren(
    ...[null, ...offered].map((value) => {
      const text = value === null ? "None" : coverageText(value);
      const radio = make("input", { type: "radio", name: "coverage", checked: value === coverage });
      radio.addEventListener("change", () => {
        coverage = value;
        cards.forEach(ask);
      });
      return make("label", {}, radio, make("span", { textContent: text }));
    }),
  );
}

function add(files) {
  if (!model) return;
  tell("");
  const added = files.map((file) => new Card({ blob: file, name: file.name }, { again: ask, explain, remove }));
  cards.unshift(...added);
  part("cards").prepend(...added.map((card) => card.element));
  showCards();
  added.forEach(ask);
}

function showCards() {
  part("answers").hidden = !cards.length;
  part("clear").hidden = cards.length < 2;
  part("add").classList.toggle("compact", cards.length > 0);
}

async function ask(card) {
  card.asked.abort();
  card.asked = new AbortController();
  const { signal } = card.asked;
  const [ofModel, ofCoverage] = [model, coverage];
  card.hideExplanation();
  card.wait("Looking …");
  try {
    const answer = await request(card, ofModel, { coverage: ofCoverage }, signal);
    card.show(answer, ofCoverage, ofModel.explanation);
    say(`${card.name}: ${spoken(answer, ofCoverage)}`);
  } catch (error) {
    if (signal.aborted) return;
    card.fail(error.message);
    say(`${card.name}: ${sentence(error.message)}`);
    if (error.needsKey) starting.askForKey(error.message);
  }
}

async function explain(card) {
  if (card.isExplained) {
    card.hideExplanation();
    return;
  }
  const { signal } = card.asked;
  card.explaining();
  try {
    const { explanation } = await request(card, model, { explanation: true }, signal);
    card.showExplanation(explanation);
    say(`${card.name}: the explanation is shown.`);
  } catch (error) {
    if (signal.aborted) return;
    card.showExplanation(null);
    card.complain(error.message);
    say(`${card.name}: ${sentence(error.message)}`);
    if (error.needsKey) starting.askForKey(error.message);
  }
}

/** What the answerer says, asked in turn, and again where it is busy. */
function request(card, ofModel, options, signal) {
  const once = () => answerer.answer(ofModel.name, card.blob, { top: TOP, ...options, signal });
  const told = (refusal) => {
    const wait = `${sentence(refusal.message)} Trying again in ${count(refusal.after, "second", "seconds")}.`;
    card.note(wait);
    say(`${card.name}: ${wait}`);
  };
  return asking(() => patiently(once, { told, signal }));
}

function remove(card) {
  const place = cards.indexOf(card);
  cards.splice(place, 1);
  card.close();
  showCards();
  (cards[place] ?? cards.at(-1))?.removeButton.focus();
  if (!cards.length) part("choose").focus();
}

part("clear").addEventListener("click", () => {
  cards.splice(0).forEach((card) => card.close());
  showCards();
  part("choose").focus();
});

const told = (text) => {
  tell(text);
  say(text);
};
listen({ button: part("choose"), input: part("file"), took: add, missed: told });
useCamera({
  opener: part("use-camera"),
  panel: part("camera"),
  video: part("video"),
  shutter: part("shutter"),
  closer: part("close-camera"),
  took: add,
  missed: told,
});
starting.begin();
