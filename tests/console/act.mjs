// Every action, with the keyboard alone and without JavaScript; what it did is asked of the verbs.

import assert from "node:assert/strict";
import { eventually, inBrowser, open, operations, settled, signedIn, usher, verdict } from "./browser.mjs";
import { press, reach, type } from "./keys.mjs";

const { BATCH, FAILURE_ID } = process.env;
const failure = `/failures/${FAILURE_ID}`;
const batch = `/batches/${BATCH}`;

async function orders() {
  return (await usher("pace", "show")).orders;
}

async function done(kind) {
  return eventually(`a ${kind} ends`, async () =>
    (await operations(kind)).find(({ state, by }) => by === "op" && state === "done"),
  );
}

async function deadLetters(...filter) {
  return (await usher("dead-letters", "list", ...filter)).count;
}

async function pauseAndResume(page) {
  await open(page, "/fleet");
  await press(page, "Resume");
  assert.equal((await orders()).pause ?? null, null);
  await open(page, "/fleet?fresh=1");
  await type(page, "Reason", "new quota");
  await press(page, "Pause");
  const { pause } = await orders();
  assert.deepEqual([pause.by, pause.reason, pause.bulkOnly], ["op", "new quota", false]);
  await open(page, "/fleet?fresh=1");
  await press(page, "Resume");
  assert.equal((await orders()).pause ?? null, null);
}

async function pinAndUnpin(page) {
  await open(page, "/fleet?fresh=1");
  await press(page, "Unpin the pace");
  assert.equal((await orders()).pace ?? null, null);
  await open(page, "/fleet?fresh=1");
  await type(page, "Rate", "600/min");
  await press(page, "Pin the pace");
  const { pace } = await orders();
  assert.deepEqual([pace.by, pace.perSecond], ["op", 10]);
  await open(page, "/fleet?fresh=1");
  await press(page, "Unpin the pace");
}

async function steerBatch(page) {
  const state = async () => (await orders()).batches?.[BATCH]?.state;
  await open(page, batch);
  await press(page, "Pause the batch");
  assert.equal(await state(), "paused");
  await open(page, `${batch}?fresh=1`);
  await press(page, "Resume the batch");
  assert.equal((await state()) ?? null, null);
  await open(page, `${batch}?fresh=1`);
  await press(page, "Cancel the batch …");
  assert.equal((await state()) ?? null, null, "a question comes first");
  await press(page, "Cancel the batch");
  assert.equal(await state(), "cancelled");
  await open(page, `${batch}?fresh=1`);
  await press(page, "Resume the batch");
}

async function redriveOne(page) {
  await open(page, failure);
  await press(page, "Redrive …");
  assert.match(await verdict(page), /^‖? *1 dead letter would be sent again. Nothing is changed yet/);
  assert.equal(await deadLetters("--id", FAILURE_ID), 1);
  await press(page, "Redrive 1 dead letter");
  const { counts } = await done("redrive");
  assert.deepEqual([counts.planned, counts.done, counts.succeeded], [1, 1, 1]);
  assert.equal(await deadLetters("--id", FAILURE_ID), 0);
}

/** By the fields of the filter. */
async function discardSome(page) {
  const of = await deadLetters("--user", "user-2");
  assert.ok(of > 1);
  await open(page, "/failures?fresh=1");
  await type(page, "User", "user-2");
  await press(page, "Choose");
  assert.match(await verdict(page), new RegExp(`^✕? *${of} of `));
  await press(page, "Discard these …");
  await press(page, `Discard ${of} dead letters`);
  const { counts } = await done("discard");
  assert.deepEqual([counts.planned, counts.done], [of, of]);
  assert.equal(await deadLetters("--user", "user-2"), 0);
}

async function reveal(browser) {
  const { page } = await signedIn(browser, "auditor", { javaScriptEnabled: false });
  const path = failure.replace(/1$/, "3");
  await open(page, path);
  assert.doesNotMatch(await page.locator("main").innerText(), /zqmarker/);
  await press(page, "Reveal the values (told in the audit log)");
  await settled(page);
  assert.match(await page.locator("main").innerText(), /zqmarker/);
  const revealed = await eventually("the audit log tells it", async () => (await operations("reveal")).at(-1));
  assert.deepEqual([revealed.by, revealed.state], ["eva", "done"]);
}

/** A question to a worker, by the form. */
async function ask(page) {
  await open(page, "/why");
  await type(page, "or user", "user-4");
  await press(page, "Ask");
  await settled(page);
  assert.match(page.url(), /\/why\?.*user=user-4/);
  await page.getByText("Timeline").first().waitFor();
}

async function signInAndOut(browser, url, token) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(url);
  await type(page, "Token", token);
  await press(page, "Sign in");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await reach(page, "link", "Fleet");
  await press(page, "Sign out");
  await page.getByLabel("Token").waitFor();
}

await inBrowser(async (browser) => {
  await signInAndOut(browser, process.env.CONSOLE_URL, process.env.OPERATOR_TOKEN);
  const { page } = await signedIn(browser, "operator", { javaScriptEnabled: false });
  await pauseAndResume(page);
  await pinAndUnpin(page);
  await steerBatch(page);
  await redriveOne(page);
  await discardSome(page);
  await ask(page);
  await reveal(browser);
});
