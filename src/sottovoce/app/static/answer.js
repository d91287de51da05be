// The answer beside the chat: it is asked for, comes in pieces, shows the way it took, and is gone when it is closed.

import { base, checkItems, make, post, trying } from "./page.js";

const panel = document.getElementById("answer");
const at = (id) => document.getElementById(id);
let source = null;
let running = false;
let asking = false;
let silent = false; // whether the app has stopped answering
let open = null; // the line that is being written

/** Ask for something, and show what comes. `body` says what; `feature` is "summary" or "rewrite". */
export async function ask(feature, body) {
  if (asking) return; // a second click before the first has its answer asks nothing
  asking = true;
  await trying(async () => {
    const before = panel.dataset.asking;
    if (before) await post(`ask/${before}/close`).catch(() => {});
    const { id } = await post(`ask/${feature}`, body);
    delete panel.dataset.saved;
    show(id, feature);
    panel.scrollIntoView({ block: "nearest" });
    panel.focus({ preventScroll: true });
  });
  asking = false;
}

/** Show the answer with that id, from its beginning. */
export function show(id, feature) {
  source?.close();
  panel.dataset.asking = id;
  panel.dataset.feature = feature;
  for (const part of ["lines", "ended", "steps", "checks"]) at(part).replaceChildren();
  for (const one of at("route").children) one.classList.remove("reached", "stopped");
  at("report").hidden = true;
  at("report").removeAttribute("href");
  panel.hidden = false;
  open = null;
  run(true);
  doing("Looking for a machine that can prove what it runs \u2026");
  source = new EventSource(`${base}ask/${id}/events`);
  source.onmessage = (message) => {
    if (silent) doing("");
    silent = false;
    tell(JSON.parse(message.data));
  };
  source.onerror = () => {
    if (!running) return;
    silent = true;
    doing("The app does not answer. Is it still running on the terminal?");
    if (source.readyState === EventSource.CLOSED) run(false);
  };
}

function run(now) {
  running = now;
  at("stop").hidden = !now;
  at("lines").setAttribute("aria-busy", String(now));
}

function doing(text) {
  at("doing").textContent = text;
  at("doing").hidden = !text;
}

function reached(party, state = "reached") {
  at("route").querySelector(`[data-party=${party}]`)?.classList.add(state);
}

const PARTY = { directory: "issuer", token: "issuer", "first trip": "relay", verification: "gateway", "first line": "cvm" };

function tell(event) {
  switch (event.event) {
    case "step":
      at("steps").append(make("li", {}, make("b", {}, event.name), ` ${event.detail} `, make("small", {}, `${event.ms} ms`)));
      if (PARTY[event.name]) reached(PARTY[event.name]);
      break;
    case "attested": {
      at("checks").replaceChildren(...checkItems(event.checks));
      const relaxed = event.relaxed ? `, ${event.relaxed} relaxed by this environment` : "";
      const what = event.simulated ? " Simulated hardware." : "";
      doing(`${event.passed} checks passed${relaxed}: sending now.${what}`);
      break;
    }
    case "waiting":
      doing(`Waiting for the model, at place ${event.place}.`);
      break;
    case "progress":
      doing(`Reading: ${event.done} of ${event.of} parts.`);
      break;
    case "chat":
      at("lines").append(make("h3", { class: "of-chat" }, titleOf(event.chat)));
      break;
    case "section":
      at("lines").append(make("h3", {}, `Part ${event.section + 1}: ${event.count} messages`));
      break;
    case "line":
      line(event.for_reader ? "for-you" : event.kind, [make("b", {}, event.for_reader ? "For you, from " : "", make("bdi", {}, event.sender), ": "), event.text], event);
      break;
    case "piece":
      open ??= line("headline", [make("span", {})], { messages: [] });
      open.querySelector("span").append(event.text);
      break;
    case "line_end":
      if (open) open.append(...cites(event.messages));
      open = null;
      break;
    case "dropped":
      open?.remove();
      open = null;
      at("ended").append(make("p", { class: "aside" }, `One ${event.kind} was held back: ${event.reason}.`));
      break;
    case "notice":
      at("ended").append(make("p", { class: "aside" }, "Nothing by the model here: it does not write this language well enough."));
      break;
    case "suggestion":
      suggestion(event);
      break;
    case "done":
      at("ended").append(make("p", { class: "aside" }, `${event.method}; model: ${event.model}. ${panel.dataset.feature === "summary" ? "It can be wrong: the numbers lead to the messages." : "Read it before you send it."}`));
      break;
    case "kept": {
      const link = at("report");
      link.href = `${base}reports/${event.report}`;
      link.hidden = false;
      break;
    }
    case "not_kept":
      ended(event, "");
      break;
    case "failed":
      if (event.checks.length) at("checks").replaceChildren(...checkItems(event.checks));
      at("way").open ||= event.checks.length > 0;
      at("route").querySelector("li:not(.reached)")?.classList.add("stopped");
      ended(event, event.sent);
      break;
    case "cancelled":
      ended({ what: "Stopped." }, event.sent);
      break;
    case "end":
      source.close();
      run(false);
      doing("");
      at("save").hidden = panel.dataset.feature !== "summary" || !at("lines").children.length || panel.dataset.saved !== undefined;
      break;
  }
}

function ended(error, sent) {
  at("ended").append(make("div", { class: "failed", role: "alert" }, make("p", {}, make("b", {}, error.what), ` ${error.hint ?? ""}`), make("p", {}, sent)));
}

function line(kind, children, event) {
  const item = make("p", { class: `line ${kind}`, dir: "auto" }, ...children, ...cites(event.messages));
  at("lines").append(item);
  doing("");
  return item;
}

function cites(ids) {
  return ids.flatMap((id) => {
    const [number, plain] = id.includes(":") ? id.split(":") : ["", id];
    const chat = number ? chatsOf()[Number(number) - 1] : ""; // numbers of chats count from 1
    const here = chat || document.querySelector("[data-chat]")?.dataset.chat;
    const href = `${base}chats/${here}?first=${plain}#m${plain}`;
    return [" ", make("a", { class: "cite", href, "aria-label": `message ${plain}` }, plain)];
  });
}

function chatsOf() {
  return (panel.dataset.chats ?? "").split(" ");
}

function titleOf(index) {
  const link = document.querySelector(`.chats a[href$="/${chatsOf()[index] ?? ""}"] .chat-title`);
  return link?.textContent ?? `Chat ${index + 1}`;
}

function suggestion(event) {
  const changed = event.parts.map(([text, kind]) => (kind === "same" ? text : make(kind === "new" ? "ins" : "del", {}, text)));
  const number = at("lines").querySelectorAll(".suggestion").length + 1;
  const compare = make("details", {}, make("summary", {}, "Compare with the draft"), make("p", { dir: "auto" }, ...changed));
  const use = make("button", { type: "button" }, "Use");
  const edit = make("button", { type: "button" }, "Edit");
  const draft = at("draft");
  use.addEventListener("click", () => (draft.value = event.text));
  edit.addEventListener("click", () => {
    draft.value = event.text;
    draft.focus();
  });
  at("lines").append(make("section", { class: "suggestion", "aria-label": `Suggestion ${number}` }, make("p", { dir: "auto" }, event.text), compare, make("div", { class: "tools" }, use, edit)));
  doing("");
}

at("stop")?.addEventListener("click", () => trying(() => post(`ask/${panel.dataset.asking}/stop`)));
at("close")?.addEventListener("click", async () => {
  source?.close();
  const id = panel.dataset.asking;
  panel.hidden = true;
  panel.dataset.asking = "";
  at("lines").replaceChildren();
  await post(`ask/${id}/close`).catch(() => {});
});
at("save")?.addEventListener("click", () =>
  trying(async () => {
    const { kept } = await post(`ask/${panel.dataset.asking}/save`);
    at("save").hidden = true;
    panel.dataset.saved = "";
    const where = kept ? "Saved, encrypted, on this machine." : "Saved until the app ends: Settings can keep chats on this machine.";
    at("ended").append(make("p", { class: "aside", role: "status" }, where));
  }),
);

if (panel?.dataset.asking) show(panel.dataset.asking, panel.dataset.feature);
