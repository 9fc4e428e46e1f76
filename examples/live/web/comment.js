// One comment on the wall: who, when, what; like, and of one's own, edit and delete.

import { attr, byId, el, say } from "./dom.js";
import { clock, count, hue } from "./words.js";

/**
 * @param {import("./replica.js").Comment} comment
 * @param {{user: string, does: (button: HTMLElement, deed: () => Promise<void>) => Promise<boolean>, room: import("./live.js").LiveRoom}} wall
 */
export function make({ comment: id, user }, { user: me, room, does }) {
  const mine = user === me;
  const face = el("span", { class: "face", "aria-hidden": "true", text: user[0] });
  // By script, since a style in the markup is what a content security policy forbids.
  face.style.setProperty("--hue", hue(user));
  const by = el("p", { class: "by" }, el("b", { text: user }), " ", el("time"), el("span", { class: "edited" }));
  const like = el("button", { type: "button", class: "like", onclick: () => does(like, () => room.like(id, like.getAttribute("aria-pressed") !== "true")) },
    el("span", { class: "heart", "aria-hidden": "true" }), el("span", { class: "likes" }));
  const row = el("div", { class: "does" }, like);
  const item = el("li", { class: mine ? "comment mine" : "comment" }, face, by, el("p", { class: "words" }), row);
  if (mine) {
    const edit = el("button", { type: "button", class: "edit", text: "Edit", onclick: () => openEditor(item, edit, (text) => does(edit, () => room.edit(id, text))) });
    const remove = el("button", { type: "button", class: "remove", text: "Delete", onclick: () => takeAway(item, () => does(remove, () => room.remove(id))) });
    row.append(edit, remove);
  }
  return item;
}

export function update(item, { user, text, at, edited, likes, liked }) {
  const time = item.querySelector("time");
  attr(time, "datetime", new Date(at * 1000).toISOString());
  say(time, clock(at, Date.now()));
  say(item.querySelector(".edited"), edited ? " · edited" : "");
  say(item.querySelector(".words"), text);
  const like = item.querySelector(".like");
  attr(like, "aria-pressed", Boolean(liked));
  attr(like, "aria-label", `Like what ${user} says; ${count(likes, "like")}`);
  say(like.querySelector(".heart"), liked ? "♥" : "♡");
  say(like.querySelector(".likes"), String(likes));
  for (const [name, what] of [["edit", "Edit"], ["remove", "Delete"]]) {
    const button = item.querySelector(`.${name}`);
    if (button) attr(button, "aria-label", `${what} your comment: ${text.slice(0, 60)}`);
  }
}

/** A like by somebody can be seen to arrive. */
export function beat(item) {
  const like = item.querySelector(".like");
  like.classList.remove("beat");
  // Read, or the browser sees no change and the animation does not begin anew.
  void like.offsetWidth;
  like.classList.add("beat");
}

function openEditor(item, edit, change) {
  if (item.querySelector(".change")) return;
  const words = item.querySelector(".words");
  const field = el("textarea", { "aria-label": "Your comment", rows: 2, required: "" });
  field.value = words.textContent;
  const close = () => {
    form.remove();
    words.hidden = false;
    edit.focus();
  };
  const form = el("form", {
    class: "change",
    onsubmit: async (event) => {
      event.preventDefault();
      if (await change(field.value)) close();
    },
    onkeydown: (event) => {
      if (event.key === "Escape") close();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    },
  }, field, el("p", { class: "row" }, el("button", { type: "button", text: "Cancel", onclick: close }), el("button", { type: "submit", class: "strong", text: "Save" })));
  words.after(form);
  words.hidden = true;
  field.focus();
}

/** With a question before. The focus goes with the comment, so it is put back to the wall. */
async function takeAway(item, remove) {
  if ((await agreed(item)) && (await remove())) byId("wall").focus();
}

function agreed(item) {
  const dialog = byId("dialog");
  say(byId("dialog-text"), item.querySelector(".words").textContent);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"), { once: true }));
}
