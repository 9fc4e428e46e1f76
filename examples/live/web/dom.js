// Small help with elements. Every text goes in as text: nothing that comes from outside is ever read as markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; `text` and `on…` are meant as they read. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Writes only what differs, so that selections stay and screen readers are left in peace. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function attr(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** One child of `parent` for each item, in order; those that stay are kept, with their focus. */
export function keep(parent, items, keyOf, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = old.get(key);
    if (child) old.delete(key);
    else {
      child = make(item);
      child.dataset.key = key;
    }
    while (next && !old.has(next.dataset.key) && next !== child) next = next.nextSibling;
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
  for (const gone of old.values()) gone.remove();
}
