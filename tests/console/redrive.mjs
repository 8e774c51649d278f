// A redrive of many that a filter chooses: stopped half-way and resumed; and one that is stopped and aborted.

import assert from "node:assert/strict";
import { eventually, inBrowser, open, operations, signedIn, usher } from "./browser.mjs";

/** Of each user's eighty. */
const FAIL_AGAIN = 5;

async function count(...filter) {
  return (await usher("dead-letters", "list", ...filter)).count;
}

async function fill(page, filter) {
  await open(page, "/failures?fresh=1");
  for (const [label, text] of Object.entries(filter)) await page.getByLabel(label, { exact: true }).fill(text);
  await page.getByRole("button", { name: "Choose" }).click();
}

/** Begins it, and stops it when a part of it is done. */
async function stoppedHalfWay(page, filter, planned) {
  await fill(page, filter);
  await page.getByRole("button", { name: "Redrive these …" }).click();
  await page.getByLabel("Rate").fill("4/s");
  await page.getByLabel("How many first").fill("0");
  const before = (await operations("redrive")).length;
  await page.getByRole("button", { name: `Redrive ${planned} dead letters` }).click();
  const begun = await eventually("it has done a part", async () => {
    const all = await operations("redrive");
    return all.length > before && all.at(-1).counts.done > 0 && all.at(-1);
  });
  const stop = page.getByRole("button", { name: "Stop, if this console runs it" });
  await eventually("the page says that it runs", async () => {
    await open(page, `/operations/${begun.id}?fresh=1`);
    return stop.isVisible();
  });
  await stop.click();
  const stopped = await reaches(begun.id, "interrupted");
  assert.ok(stopped.counts.done < planned, `it was stopped half-way: ${JSON.stringify(stopped.counts)}`);
  await eventually("the page says so", async () => {
    await open(page, `/operations/${begun.id}?fresh=1`);
    return page.getByRole("button", { name: "Resume" }).isVisible();
  });
  return stopped;
}

async function reaches(id, state) {
  return eventually(`it is ${state}`, async () =>
    (await operations("redrive")).find((operation) => operation.id === id && operation.state === state),
  );
}

/** What the page of an operation tells in numbers. */
async function facts(page, id) {
  await open(page, `/operations/${id}?fresh=1`);
  const pairs = await page.locator(".facts > div").evaluateAll((all) =>
    all.map((fact) => [fact.querySelector("dt").innerText, Number(fact.querySelector("dd").innerText)]),
  );
  return Object.fromEntries(pairs);
}

/**
 * The numbers of the page, and the commands themselves: each has succeeded or is a dead letter. Those that were in flight at the
 * stop have an outcome that nobody saw.
 */
async function addsUp(page, id, user, planned) {
  const told = await eventually("the page tells the end", async () => {
    const all = await facts(page, id);
    return "Done" in all && (await page.locator("form[action*=operation]").count()) === 0 && all;
  });
  assert.equal(told["Planned for"], planned);
  assert.equal(told.Succeeded + told["Failed again"] + told["Outcome not seen"], told.Done, JSON.stringify(told));
  await eventually("each command has succeeded or is a dead letter", async () => {
    const { stories } = await usher("why", "--user", user, "--since", "1h");
    const succeeded = stories.filter(({ state }) => state === "succeeded").length;
    return succeeded >= told.Succeeded && succeeded + (await count("--user", user)) === planned;
  });
  return told;
}

async function resumed(page) {
  const planned = await count("--user", "user-1");
  const { id } = await stoppedHalfWay(page, { User: "user-1", Batch: "b1" }, planned);
  await page.getByRole("button", { name: "Resume" }).click();
  await reaches(id, "done");
  const { Done, Starts } = await addsUp(page, id, "user-1", planned);
  assert.deepEqual([Done, Starts], [planned, 2]);
  assert.equal(await count("--user", "user-1"), FAIL_AGAIN);
}

async function aborted(page) {
  const planned = await count("--user", "user-3");
  const { id } = await stoppedHalfWay(page, { User: "user-3" }, planned);
  await page.getByRole("button", { name: /^Abort/ }).click();
  await reaches(id, "aborted");
  const { Done } = await addsUp(page, id, "user-3", planned);
  assert.ok(Done < planned);
}

await inBrowser(async (browser) => {
  const { page } = await signedIn(browser, "operator", { javaScriptEnabled: false });
  await resumed(page);
  await aborted(page);
});
