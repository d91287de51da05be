// What every page needs: talking to the app on this machine, building elements, and telling of trouble.

export const base = document.body.dataset.base;

/** An element; text is always text, never markup. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Ask the app to change something; what it says, or an error in words. */
export async function post(path, body = {}) {
  let response;
  try {
    response = await fetch(base + path, {
      method: "POST",
      body: body instanceof Blob ? body : JSON.stringify(body),
    });
  } catch {
    throw { what: "The app has ended.", hint: "Start it again on the terminal: sottovoce app" };
  }
  if (!(response.headers.get("content-type") ?? "").startsWith("application/json")) {
    throw { what: await response.text(), hint: "" };
  }
  const said = await response.json();
  if (!response.ok) throw said;
  return said;
}

/** Show what went wrong, where a screen reader says it at once. */
export function trouble(error) {
  const place = document.getElementById("trouble");
  place.textContent = `${error.what ?? "Something went wrong."} ${error.hint ?? ""}`.trim();
  place.hidden = false;
  clearTimeout(trouble.timer);
  trouble.timer = setTimeout(() => (place.hidden = true), 12000);
}

/** Run something, and tell of its trouble. */
export async function trying(what) {
  try {
    return await what();
  } catch (error) {
    trouble(error);
    if (error instanceof Error) throw error;
    return undefined;
  }
}

/** The items of one verdict. */
export function checkItems(checks) {
  const order = { fail: 0, relaxed: 1, "not checked": 2, pass: 3 };
  return [...checks]
    .sort((one, other) => order[one.status] - order[other.status])
    .map((one) => {
      const wanted = one.wanted === "-" ? "" : `; wanted: ${one.wanted}`;
      const item = make("li", { class: `check ${one.status.replace(" ", "-")}` }, make("b", {}, one.status), ` ${one.title} `);
      item.append(make("small", {}, `found: ${one.found}${wanted}; from: ${one.source} [${one.id}]`));
      if (one.gain) item.append(make("small", { class: "gain" }, one.gain));
      return item;
    });
}
