// With JavaScript: pages follow, "Pause updates" ends that, tables are saved, and each relative time has its exact one.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { findings } from "./axe.mjs";
import { inBrowser, open, signedIn, usher } from "./browser.mjs";

async function followsUntilPaused(context, page) {
  await open(page, "/fleet");
  await usher("pause", "--reason", "first", "--by", "ben");
  await page.getByText("paused by ben").waitFor();
  assert.deepEqual(await findings(page), [], "after an update");

  await page.getByRole("link", { name: "Pause updates" }).click();
  await page.getByRole("link", { name: "Update live" }).waitFor();
  const other = await context.newPage();
  await open(other, "/fleet");
  await other.getByText("paused by ben").waitFor();
  await usher("resume");
  await other.getByText("paused by ben").waitFor({ state: "hidden" });
  assert.ok(await page.getByText("paused by ben").isVisible(), "it stands still");
  await page.getByRole("link", { name: "Update live" }).click();
  await page.getByText("paused by ben").waitFor({ state: "hidden" });
  await other.close();
}

/** A window without a screen has no background: the page is told that it is there, or in sight again. */
async function inBackground(page, isHidden) {
  await page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
}

/** A browser has six connections to a server at a time: a page in the background lets go of its own. */
async function manyPagesAtOnce(context) {
  const pages = [];
  for (let n = 0; n < 8; n += 1) {
    const page = await context.newPage();
    await open(page, "/fleet");
    await inBackground(page, true);
    pages.push(page);
  }
  await usher("pause", "--reason", "second", "--by", "ben");
  await inBackground(pages[0], false);
  await pages[0].getByText("paused by ben").waitFor();
  for (const page of pages) await page.close();
}

async function saves(page) {
  await open(page, "/failures");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "CSV of Each of them" }).click(),
  ]);
  assert.equal(download.suggestedFilename(), "letters.csv");
  const [heads, ...rows] = readFileSync(await download.path(), "utf8").trim().split("\r\n");
  assert.match(heads, /^Command,User,Batch,/);
  const table = page.locator("#s-letters tbody");
  const shown = await table.locator("tr td:first-child").allInnerTexts();
  assert.deepEqual(rows.map((row) => row.split(",")[0]), shown);
}

async function timesAreExact(page, path) {
  await open(page, path);
  const times = await page.locator("time").evaluateAll((all) =>
    all.map((time) => ({ exact: time.dateTime, title: time.title, said: time.innerText })),
  );
  assert.ok(times.length > 0, path);
  for (const { exact, title, said } of times) {
    assert.ok(Date.parse(exact), exact);
    assert.equal(title, exact);
    assert.match(said, /^(now|in .+|.+ ago)$/);
  }
}

await inBrowser(async (browser) => {
  const { context, page, complaints } = await signedIn(browser, "viewer");
  await followsUntilPaused(context, page);
  await manyPagesAtOnce(context);
  await saves(page);
  for (const path of ["/failures", process.env.FAILURE, "/operations", "/batches"]) await timesAreExact(page, path);
  assert.deepEqual(complaints, []);
});
