// Chats and forms. All of it works on what the page holds; nothing is loaded from anywhere but the app on this machine.

import { ask } from "./answer.js";
import { base, checkItems, make, post, trouble, trying } from "./page.js";

const at = (id) => document.getElementById(id);

const chat = document.querySelector("[data-chat]")?.dataset.chat;

// A page that is made anew has what stood in the composer. The app remembers it, in memory: what a browser remembers is on the disk.
async function keepDraft() {
  if (at("draft")) await post(`chats/${chat}/draft`, { text: at("draft").value });
}

// Forms that change something: post what they hold, then show the page as it is now.
for (const form of document.querySelectorAll("form[data-post]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (form.dataset.sure && !confirm(form.dataset.sure)) return;
    trying(async () => {
      await keepDraft();
      await post(form.dataset.post, Object.fromEntries(new FormData(form)));
      if (form.dataset.go !== undefined) location.href = base + form.dataset.go;
      else location.reload();
    });
  });
}

// Exports, chosen or dropped. Each is read by the app on this machine.
async function add(files) {
  let last = null;
  let all = true;
  const told = [];
  for (const file of files) {
    at("imported").textContent = `Reading ${file.name} \u2026`;
    try {
      last = await post(`import?name=${encodeURIComponent(file.name)}`, file);
      told.push(`${last.title}: ${last.messages} messages`);
    } catch (error) {
      trouble({ what: `${file.name}: ${error.what}`, hint: error.hint });
      told.push(`${file.name}: ${error.what}`);
      all = false;
      if (error instanceof Error) throw error;
    }
  }
  at("imported").textContent = told.join("; ");
  if (!last || !all) return; // what went wrong stays to be read
  await trying(keepDraft);
  location.href = files.length === 1 ? `${base}chats/${last.id}` : base;
}
at("files").addEventListener("change", (event) => add([...event.target.files]));
for (const name of ["dragover", "drop", "dragleave"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") add([...event.dataTransfer.files]);
  });
}

// A chat.
at("summarise")?.addEventListener("click", () => ask("summary", { chats: [chat], quick: at("quick").checked }));
at("several")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const chats = form.getAll("chat");
  const quick = form.has("quick");
  if (chats.length === 1) {
    // Its answer belongs beside the chat, where its numbers lead to the messages.
    trying(async () => {
      await post("ask/summary", { chats, quick });
      location.href = `${base}chats/${chats[0]}`;
    });
    return;
  }
  at("answer").dataset.chats = chats.join(" ");
  ask("summary", { chats, quick });
});
at("composer")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  document.querySelector(".pencil").open = false;
  ask("rewrite", { chat, draft: form.get("draft"), style: form.get("style"), context: form.has("context") });
});
at("copy")?.addEventListener("click", () => trying(async () => {
  await navigator.clipboard.writeText(at("draft").value);
  at("copy").textContent = "Copied";
  setTimeout(() => (at("copy").textContent = "Copy"), 2000);
}));
for (const button of document.querySelectorAll(".from-here")) {
  button.addEventListener("click", () => trying(async () => {
    await keepDraft();
    await post(`chats/${chat}/marker`, { message: button.dataset.from });
    location.hash = `m${button.dataset.from}`;
    location.reload();
  }));
}
// Citations go to the message and its number is said.
addEventListener("click", (event) => {
  const cite = event.target.closest?.("a.cite");
  const message = cite && chat && cite.pathname.endsWith(`/chats/${chat}`) && at(cite.hash.slice(1));
  if (!message) return; // the link leads to a page that has it
  event.preventDefault();
  message.scrollIntoView({ block: "center" });
  message.focus({ preventScroll: true });
  message.classList.add("shown");
  setTimeout(() => message.classList.remove("shown"), 2500);
});
if (at("messages") && !location.hash) (at("unread") ?? at("messages").lastElementChild)?.scrollIntoView({ block: "center" });

// Messages by the arrow keys; the one that has the focus has a button, so that there are not hundreds of them on the way to what comes after.
at("messages")?.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || event.target.closest("button, input, a")) return;
  const all = [...at("messages").querySelectorAll(".bubble")];
  const now = all.indexOf(event.target.closest(".bubble"));
  const next = now < 0 ? all.at(-1) : all[now + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
});
at("messages")?.addEventListener("focusin", (event) => {
  for (const one of at("messages").querySelectorAll(".from-here[tabindex='0']")) one.tabIndex = -1;
  const button = event.target.closest(".bubble")?.querySelector(".from-here");
  if (button) button.tabIndex = 0;
});
// Escape closes what was opened.
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const one of document.querySelectorAll(".menu[open], .pencil[open]")) {
    one.open = false;
    one.querySelector("summary").focus();
  }
});

// A report, verified again from its evidence.
at("verify")?.addEventListener("click", () => trying(async () => {
  const found = await post(`reports/${at("verify").dataset.report}/verify`);
  at("verified").replaceChildren(
    make("p", {}, make("b", {}, found.accepted ? "Accepted again: the evidence proves what the report says." : "Refused: see the checks that fail.")),
    make("ul", { class: "checks" }, ...checkItems(found.checks)),
  );
}));
