// The keyboard: Tab until something has the focus, then type or press Enter.

import assert from "node:assert/strict";

/** More than there are controls on a page. */
const TABS_MAX = 400;

/** The role and the name of what has the focus, as a screen reader says them. */
export async function focused(page) {
  return page.evaluate(() => {
    const at = document.activeElement;
    if (!at || at === document.body) return { role: "", name: "" };
    const roles = { A: "link", BUTTON: "button", INPUT: "field", SELECT: "field" };
    const own = at.labels?.[0]?.querySelector("span")?.textContent ?? at.innerText;
    return { role: roles[at.tagName] ?? "region", name: own.replace(/\s+/g, " ").trim() };
  });
}

/** Tab until the focus is on what has this role and name. */
export async function reach(page, role, name) {
  for (let tabs = 0; tabs < TABS_MAX; tabs += 1) {
    const at = await focused(page);
    if (at.role === role && at.name === name) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${TABS_MAX} times Tab lead to no ${role} "${name}" on ${page.url()}`);
}

/** Presses a button by Enter, and waits for the page that it leads to. */
export async function press(page, name) {
  await reach(page, "button", name);
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
}

/** Types into the field of this label. */
export async function type(page, label, text) {
  await reach(page, "field", label);
  await page.keyboard.type(text);
}
