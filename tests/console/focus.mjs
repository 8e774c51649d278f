// The keyboard on each screen: every control is reached, its focus is seen, and live updates take neither focus nor text away.

import assert from "node:assert/strict";
import { eventually, inBrowser, open, signedIn, usher } from "./browser.mjs";
import { focused, reach } from "./keys.mjs";

const SCREENS = ["/", "/failures", process.env.FAILURE, "/operations", "/batches", process.env.BATCH, "/why", "/fleet"];

/** Whatever can be operated or scrolled, in the order of the page. */
const CONTROLS = 'a[href], button, input:not([type="hidden"]), select, [tabindex="0"]';

/** What has the focus: its place among the controls, and whether that can be seen. */
function focusShown(page) {
  return page.evaluate((controls) => {
    const at = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(at);
    const { top, bottom, left, right } = at.getBoundingClientRect();
    const isInView = bottom > 0 && top < innerHeight && right > 0 && left < innerWidth;
    return {
      place: [...document.querySelectorAll(controls)].indexOf(at),
      html: at.outerHTML.slice(0, 120),
      isSeen: isInView && outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
    };
  }, CONTROLS);
}

async function tabThrough(page, path) {
  // Updates would move the page meanwhile.
  await open(page, `${path}?live=off`);
  const count = await page.locator(CONTROLS).count();
  for (let place = 0; place < count; place += 1) {
    await page.keyboard.press("Tab");
    const shown = await focusShown(page);
    assert.equal(shown.place, place, `${path}: Tab ${place + 1} leads to ${shown.html}`);
    assert.ok(shown.isSeen, `${path}: the focus on ${shown.html} can't be seen`);
  }
}

async function skipToContent(page) {
  await open(page, "/fleet");
  await page.keyboard.press("Tab");
  assert.equal((await focused(page)).name, "Skip to the content");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal((await focused(page)).name, "‖ Pause updates");
}

/** An order that is given meanwhile is shown by an update. */
async function updateKeepsFocusAndText(page, path, label, at, order) {
  await open(page, path);
  await reach(page, "field", label);
  await page.keyboard.type("half a wrod");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  await order();
  await eventually("an update shows it", () => page.getByText(at).first().isVisible());
  assert.deepEqual(await focused(page), { role: "field", name: label });
  await page.keyboard.type("-");
  assert.equal(await page.evaluate(() => document.activeElement.value), "half a wr-od");
}

await inBrowser(async (browser) => {
  const { page, complaints } = await signedIn(browser, "operator");
  for (const path of SCREENS) await tabThrough(page, path);
  await skipToContent(page);
  await updateKeepsFocusAndText(page, "/fleet", "Reason", "paused by ben", () =>
    usher("pause", "--reason", "a window", "--by", "ben"),
  );
  await updateKeepsFocusAndText(page, "/why", "or user", "No command in hand waits", () => {});
  assert.deepEqual(complaints, []);
});
