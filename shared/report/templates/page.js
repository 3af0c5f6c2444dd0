"use strict";
const form = document.getElementById("filters");
const known = JSON.parse(document.getElementById("evidence").textContent);
const rows = [...document.querySelectorAll("tr.row")];
const paperOf = (node) => node.closest("section.paper").dataset.paper;
const tier = form.elements.tier.value;

for (const word of [...new Set(rows.map((row) => row.dataset.verdict))].sort())
  form.elements.verdict.add(new Option(word));
form.hidden = false;

function show() {
  const asked = Object.fromEntries(["paper", "verdict", "role", "words"].map((name) => [name, form.elements[name].value]));
  const wanted = asked.words.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const seen = (!asked.paper || paperOf(row) === asked.paper) && (!asked.verdict || row.dataset.verdict === asked.verdict)
      && (!asked.role || row.dataset.role === asked.role) && (!wanted || row.textContent.toLowerCase().includes(wanted));
    row.hidden = !seen;
    shown += seen;
  }
  const some = asked.verdict || asked.role || wanted;
  for (const block of document.querySelectorAll(".judged")) block.hidden = !block.querySelector("tr.row:not([hidden])");
  for (const block of document.querySelectorAll(".shown")) block.hidden = Boolean(some);
  for (const section of document.querySelectorAll("section.paper"))
    section.hidden = asked.paper ? paperOf(section) !== asked.paper : Boolean(some) && !section.querySelector("tr.row:not([hidden])");
  form.querySelector("output").value = `${shown} of ${rows.length} claims and numbers`;
  const state = new URLSearchParams(Object.entries(asked).filter(([, value]) => value)).toString();
  return state;
}

function changed(event) {
  if (event.target.name === "tier" && event.target.value !== tier) {
    location.href = `../${event.target.value}/index.html${location.hash}`;
    return;
  }
  const state = show();
  history.replaceState(null, "", state ? `#?${state}` : location.pathname + location.search);
}

function fromAddress() {
  const hash = decodeURIComponent(location.hash.slice(1));
  if (hash.startsWith("?"))
    for (const [name, value] of new URLSearchParams(hash.slice(1))) if (form.elements[name]) form.elements[name].value = value;
  show();
  const target = hash && !hash.startsWith("?") && document.getElementById(hash);
  if (!target) return;
  for (const details of target.matches("tr") ? target.querySelectorAll("details") : []) details.open = true;
  target.scrollIntoView();
}

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function oneRecord(paper, place) {
  const { shared, runs } = known[paper];
  const run = { ...shared, ...runs[place] };
  const item = element("details", "", element("summary", run.id));
  item.addEventListener("toggle", () => {
    if (item.childElementCount > 1) return;
    const list = element("dl");
    for (const [key, value] of Object.entries(run)) if (key !== "id") list.append(element("dt", key), element("dd", String(value)));
    if (Object.keys(run).length === 1) list.append(element("dt", "record"), element("dd", "none"));
    item.append(
      list,
      element("p", "The record: ", element("code", `results/${tier}/${paper}/runs/${run.id.slice(paper.length + 1)}.json`)),
      element("p", "Train it again and compare: ", element("code", `python -m shared.runs.verify ${paper} --tier ${tier} --only ${run.id}`)),
    );
  });
  return element("li", "", item);
}

for (const box of document.querySelectorAll(".records")) {
  box.closest("details").addEventListener("toggle", () => {
    if (box.childElementCount) return;
    const paper = paperOf(box);
    let n = 0;
    for (const [cell, sides] of Object.entries(JSON.parse(box.dataset.runs)))
      for (const [side, places] of Object.entries(sides)) {
        n += places.length;
        if (cell || side) box.append(element("p", [cell, side].filter(Boolean).join(": ")));
        box.append(element("ul", "", ...places.map((place) => oneRecord(paper, place))));
      }
    if (!n) box.append(element("p", "No records."));
  });
}

form.addEventListener("input", changed);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { show(); history.replaceState(null, "", location.pathname + location.search); }));
addEventListener("hashchange", fromAddress);
addEventListener("beforeprint", () => document.querySelectorAll("details.table").forEach((node) => { node.open = true; }));
fromAddress();
