// What the programs beside this one have in common: a browser, people who are signed in, the verbs, and waiting.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { promisify } from "node:util";

const { chromium } = createRequire(`${process.env.PLAYWRIGHT}/`)("playwright-core");

/** Longer than whatever is waited for takes on a busy machine. */
const PATIENCE = 60_000;

export const url = process.env.CONSOLE_URL;
export const tokens = {
  operator: process.env.OPERATOR_TOKEN,
  auditor: process.env.AUDITOR_TOKEN,
  viewer: process.env.VIEWER_TOKEN,
};

/** Without a browser of its own, and without one that is downloaded: Debian's. */
export async function inBrowser(check) {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium" });
  try {
    await check(browser);
  } finally {
    await browser.close();
  }
}

/** A window of somebody who is signed in. What the browser complains of is in `complaints`. */
export async function signedIn(browser, who, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const form = { token: tokens[who] };
  const answer = await context.request.post(`${url}/sign-in`, { form, maxRedirects: 0 });
  assert.equal(answer.status(), 303, `${who} signs in`);
  const page = await context.newPage();
  return { context, page, complaints: complaintsOf(page) };
}

/** Errors of scripts, what the policy of the page refuses, and whatever else the browser reports as wrong. */
export function complaintsOf(page) {
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  // A page that is left gives up its live request, and the script may still say so.
  page.on("requestfailed", (request) => {
    const { errorText } = request.failure();
    if (errorText !== "net::ERR_ABORTED") complaints.push(`${request.url()}: ${errorText}`);
  });
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    // The page itself was answered with 403, 404 or 503, which is what it shows.
    const isOfPage = message.text().startsWith("Failed to load resource") && message.location().url === page.url();
    const isOfRequest = message.text().startsWith("htmx: htmx:error: Failed to fetch");
    if (!isOfPage && !isOfRequest) complaints.push(`${page.url()}: ${message.text()}`);
  });
  return complaints;
}

/** Opens a page, and follows it while it says that it is still looking. */
export async function open(page, path) {
  await page.goto(`${url}${path}`);
  await settled(page);
}

/** Asks again, as the page does by itself, until there is an answer. */
export async function settled(page) {
  await eventually("the page has its answer", async () => {
    const text = await page.locator("main").innerText();
    if (!/has not answered yet|it follows/.test(text)) return true;
    await page.reload();
  });
}

/** The one sentence of the page. */
export function verdict(page) {
  return page.locator("#verdict").innerText();
}

/** Asks again until there is an answer. The only place where a program waits by the clock. */
export async function eventually(what, ask) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert.ok(Date.now() < deadline, `it didn't happen within ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** What a verb prints as JSON, whatever it exits with. */
export async function usher(...words) {
  const run = promisify(execFile);
  const ended = await run(process.env.USHER, [...words, "--json"]).catch((error) => error);
  assert.ok(ended.stdout, `usher ${words.join(" ")}: ${ended.stderr}`);
  return JSON.parse(ended.stdout);
}

/** The operations that the audit log knows, the latest last. */
export async function operations(kind) {
  return (await usher("operations", "list")).filter((operation) => operation.kind === kind);
}
