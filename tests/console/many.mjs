// Ten thousand dead letters: all of them are listed, each once, a bounded number of rows on a page. How long it took is printed.

import assert from "node:assert/strict";
import { inBrowser, open, signedIn, url } from "./browser.mjs";

const ALL = 10_000;
const ROWS = 50;

function idsOf(html) {
  const table = html.split('id="s-letters"')[1];
  return [...table.matchAll(/<tr><td><a href="\/failures\/([0-9a-f-]{36})"/g)].map(([, id]) => id);
}

await inBrowser(async (browser) => {
  const { context, page } = await signedIn(browser, "viewer", { javaScriptEnabled: false });
  const looking = performance.now();
  await open(page, "/failures");
  const looked = performance.now();

  const seen = new Set(idsOf(await page.content()));
  assert.equal(seen.size, ROWS);
  const first = [...seen];
  await page.getByRole("link", { name: "Earlier →" }).click();
  await page.getByText("Page 2 of 200").waitFor();
  idsOf(await page.content()).forEach((id) => seen.add(id));
  assert.equal(seen.size, 2 * ROWS);

  let longest = 0;
  for (let at = 3; at <= ALL / ROWS; at += 1) {
    const asked = performance.now();
    const answer = await context.request.get(`${url}/failures?page=${at}`);
    longest = Math.max(longest, performance.now() - asked);
    const ids = idsOf(await answer.text());
    assert.equal(ids.length, ROWS, `rows of page ${at}`);
    ids.forEach((id) => seen.add(id));
  }
  assert.equal(seen.size, ALL, "each is listed once");

  await page.goto(`${url}/failures?page=200`);
  assert.equal(await page.getByRole("link", { name: "Earlier →" }).count(), 0);
  await page.goto(`${url}/failures?page=201`);
  await page.getByText("Page 200 of 200").waitFor();
  await page.goto(`${url}/failures?page=1`);
  assert.deepEqual(idsOf(await page.content()), first);
  console.log(`many: looked at in ${Math.round(looked - looking)} ms, the slowest page in ${Math.round(longest)} ms`);
});
