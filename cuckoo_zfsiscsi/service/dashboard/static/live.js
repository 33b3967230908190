// Keeps the page up to date: server-sent events bring finished pieces, rendered by the service.
"use strict";

const say = (text) => { document.getElementById("say").textContent = text; };
const link = document.getElementById("link");
let skew = 0;  // seconds that the server's clock is ahead of ours

function ago(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

// What only time changes.
function tick(root) {
  const now = Date.now() / 1000 + skew;
  for (const one of root.querySelectorAll("time[data-since]")) {
    const text = `for ${ago(now - one.dataset.since)}`;
    if (!one.title) one.title = one.textContent;
    if (one.textContent !== text) one.textContent = text;
  }
  for (const one of root.querySelectorAll("progress[data-began]")) {
    if (!one.dataset.stages) {
      one.dataset.stages = one.max;
      one.dataset.reached = one.value;
    }
    const reached = one.dataset.reached / one.dataset.stages;
    const passed = one.dataset.takes ? (now - one.dataset.began) / one.dataset.takes : 0;
    one.max = 1;
    // Never back, and not full before it is.
    one.value = Math.max(reached, Math.min(0.97, passed));
  }
}

// The keyboard's focus stays where it was, on the new piece.
function swap(old, html) {
  const active = document.activeElement;
  const inside = old.contains(active) ? [...old.querySelectorAll("a, button")].indexOf(active) : -1;
  const piece = document.createElement("template");
  piece.innerHTML = html;
  const fresh = piece.content.firstElementChild;
  old.replaceWith(fresh);
  tick(fresh);
  if (inside >= 0) fresh.querySelectorAll("a, button")[inside]?.focus();
  return fresh;
}

function online(yes) {
  link.textContent = yes ? "live" : "no connection";
  link.classList.toggle("bad", !yes);
}

const find = document.getElementById("find");
function filter(cards) {
  const wanted = find.value.trim().toLowerCase();
  for (const card of cards) card.hidden = !card.textContent.toLowerCase().includes(wanted);
  const all = document.querySelectorAll(".host");
  const shown = [...all].filter((card) => !card.hidden).length;
  document.getElementById("found").textContent = wanted ? `${shown} of ${all.length}` : "";
}

function takeCards(data) {
  skew = data.now - Date.now() / 1000;
  for (const [label, html] of Object.entries(data.cards)) {
    const old = document.getElementById(`host-${label}`);
    if (!old) continue;
    const before = old.dataset.state;
    const card = swap(old, html);
    if (find.value) filter([card]);
    // Read out is only what someone must do something about.
    if (card.dataset.state === "quarantined" && before !== "quarantined") {
      say(`${label} is quarantined`);
    }
  }
  if (data.summary !== undefined) {
    const summary = document.getElementById("summary");
    const focused = summary.contains(document.activeElement);
    if (!focused) summary.innerHTML = data.summary;
  }
}

const live = document.getElementById("live");
let asking = false, again = false;
async function refresh() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    const answer = await fetch(live.dataset.part);
    if (answer.status === 401) { location.assign("/login"); return; }
    const html = await answer.text();
    if (answer.ok) {
      const buttons = () => [...live.querySelectorAll("a, button")];
      const focused = buttons().indexOf(document.activeElement);
      live.innerHTML = html;
      if (focused >= 0) buttons()[focused]?.focus();
      tick(live);
    }
    online(answer.ok);
  } catch {
    online(false);
  }
  asking = false;
  if (again) { again = false; setTimeout(refresh, 300); }
}

document.addEventListener("click", (event) => {
  const open = event.target.closest("[data-open]");
  if (open) document.getElementById(open.dataset.open).showModal();
  if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
});

const watched = document.querySelector("[data-events]");
if (watched) {
  const source = new EventSource(watched.dataset.events);
  source.onopen = () => online(true);
  source.onerror = () => {
    online(false);
    // A browser gives up at an answer like 401: the session has ended.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  };
  source.onmessage = (event) => (live ? refresh() : takeCards(JSON.parse(event.data)));
}
if (live?.dataset.every) setInterval(refresh, live.dataset.every * 1000);
if (find) {
  find.addEventListener("input", () => filter(document.querySelectorAll(".host")));
  find.form.addEventListener("submit", (event) => event.preventDefault());
}
tick(document);
setInterval(() => { if (!document.hidden) tick(document); }, 1000);
