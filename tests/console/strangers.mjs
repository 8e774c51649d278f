// Strings of strangers on each screen: they are text, no script of theirs runs, and no element or address is theirs. The page's
// policy would stop scripts, so it is switched off here: the text alone has to be harmless.

import assert from "node:assert/strict";
import { inBrowser, open, operations, settled, signedIn, url } from "./browser.mjs";

const STRANGE = JSON.parse(process.env.STRANGE);

/** What no browser shows, and what would turn the text beside it around, is a mark. */
const shown = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

/** Batches and people have no control characters in their names. */
const isNamable = (text) => !/[\u0000-\u001f\u007f-\u009f]/.test(text);

async function windowOf(browser, who) {
  const opened = await signedIn(browser, who, { bypassCSP: true });
  await opened.context.addInitScript(() => {
    window.hits = [];
    window.hit = () => window.hits.push(document.currentScript?.outerHTML ?? "an attribute");
    window.alert = window.hit;
  });
  return opened;
}

/** The same strings would be found, where a page took them for HTML. */
async function wouldBeFound(page) {
  await open(page, "/fleet?live=off");
  await page.evaluate((texts) => {
    document.querySelector("#content").innerHTML = texts.join("");
  }, STRANGE);
  await page.waitForFunction(() => window.hits.length > 0);
  await assert.rejects(isHarmless(page));
}

/** Nothing on the page is made by a text. */
async function isHarmless(page) {
  const at = page.url();
  const found = await page.evaluate(() => ({
    hits: window.hits,
    scripts: [...document.querySelectorAll("script:not([src='/assets/htmax-4.0.1.min.js'])")].length,
    foreign: [...document.querySelectorAll("img, iframe, object, embed, base, b, svg[onload]")].length,
    handlers: [...document.querySelectorAll("*")].filter((element) =>
      [...element.attributes].some(({ name }) => name.startsWith("on") || name === "style"),
    ).length,
    links: [...document.querySelectorAll("a[href]")].filter(({ origin }) => origin !== location.origin).length,
    titles: document.querySelectorAll("title").length,
    mains: document.querySelectorAll("main").length,
  }));
  assert.deepEqual(found, { hits: [], scripts: 0, foreign: 0, handlers: 0, links: 0, titles: 1, mains: 1 }, at);
}

async function says(page, path, texts) {
  await open(page, path);
  await isHarmless(page);
  const all = await page.locator("body").innerText();
  for (const text of [texts].flat()) {
    assert.ok(all.includes(shown(text)), `${page.url()} doesn't show ${JSON.stringify(text)}: ${all}`);
  }
}

async function screensOf(page, text) {
  const id = encodeURIComponent(text);
  await says(page, `/failures?user=${id}`, text);
  await says(page, `/failures?reason=${id}`, text);
  for (const path of [`/why?user=${id}`, `/why?command=${id}`]) {
    await open(page, path);
    await isHarmless(page);
  }
}

/** Each link of a list leads to what it names. */
async function linksLead(page, path, table, title) {
  await open(page, path);
  const all = await page.locator(`#s-${table} tbody td:first-child a`).evaluateAll((links) =>
    links.map((link) => [link.href, link.textContent]),
  );
  const links = new Map(all);
  assert.ok(links.size >= STRANGE.filter(isNamable).length, path);
  for (const [href, text] of links) {
    await page.goto(href);
    await settled(page);
    assert.equal(await page.locator("h1").textContent(), `${title} ${text}`, href);
    await isHarmless(page);
  }
}

async function operatorSees(page) {
  for (const path of ["/", "/why"]) {
    await open(page, path);
    await isHarmless(page);
  }
  await says(page, "/fleet", [STRANGE[0], STRANGE[1]]);
  await says(page, "/failures", STRANGE);
  await says(page, "/operations", STRANGE.filter(isNamable));
  await says(page, "/batches", STRANGE.filter(isNamable));
  for (const text of STRANGE) await screensOf(page, text);
  for (const { id } of (await operations("reveal")).slice(0, 3)) {
    await open(page, `/operations/${id}`);
    await isHarmless(page);
  }
  await linksLead(page, "/failures", "letters", "Failure of");
  await linksLead(page, "/batches", "batches", "Batch");
}

async function planNames(page) {
  await open(page, `/failures?user=${encodeURIComponent(STRANGE[0])}`);
  await page.getByRole("button", { name: /^Redrive/ }).click();
  await page.getByText("Nothing is changed yet").waitFor();
  await isHarmless(page);
}

async function auditorSees(page) {
  for (const text of STRANGE) {
    await open(page, `/failures/${encodeURIComponent(text)}`);
    await page.getByRole("button", { name: /^Reveal/ }).click();
    await page.getByText("the audit log knows").first().waitFor();
    await isHarmless(page);
  }
}

/** An update sends the same text again, and a script puts it into the page. */
async function updatesAreHarmless(page) {
  const updates = [];
  page.on("response", (response) => updates.push(response.url()));
  await open(page, `/failures?user=${encodeURIComponent(STRANGE[1])}`);
  const before = await page.locator("#verdict").innerText();
  await page.waitForFunction((text) => document.querySelector("#verdict").innerText !== text, before);
  assert.ok(updates.some((address) => address.startsWith(`${url}/live/`)));
  await isHarmless(page);
}

await inBrowser(async (browser) => {
  await wouldBeFound((await windowOf(browser, "viewer")).page);
  const [operator, auditor] = [await windowOf(browser, "operator"), await windowOf(browser, "auditor")];
  await operatorSees(operator.page);
  await planNames(operator.page);
  await updatesAreHarmless(operator.page);
  await auditorSees(auditor.page);
  assert.deepEqual([...operator.complaints, ...auditor.complaints], []);
});
