// Each screen in light and dark, on narrow and wide windows, and in forced colours: no finding, nothing beside the window.

import assert from "node:assert/strict";
import { findings } from "./axe.mjs";
import { complaintsOf, inBrowser, open, settled, signedIn, tokens, url } from "./browser.mjs";

/** Of each: whose window, the address, and what is sent there before it is looked at. */
const SCREENS = [
  ["overview", "operator", "/"],
  ["failures", "operator", "/failures"],
  ["failures, a page further", "operator", "/failures?page=2"],
  ["failures, none chosen", "operator", "/failures?user=nobody"],
  ["failures, a wrong filter", "operator", "/failures?since=soon"],
  ["failure", "operator", process.env.FAILURE],
  ["failure, for a viewer", "viewer", process.env.FAILURE],
  ["failure, revealed", "auditor", process.env.FAILURE, /^Reveal/],
  ["plan of a redrive", "operator", "/failures", /^Redrive/],
  ["plan of a discard", "operator", "/failures?user=user-1", /^Discard/],
  ["operations", "operator", "/operations"],
  ["operation", "operator", process.env.OPERATION],
  ["batches", "operator", "/batches"],
  ["batch", "operator", process.env.BATCH],
  ["question before a cancel", "operator", process.env.BATCH, /^Cancel/],
  ["why", "operator", "/why"],
  ["why a user", "operator", "/why?user=user-4"],
  ["why an unknown user", "operator", "/why?user=nobody"],
  ["fleet", "operator", "/fleet"],
  ["fleet, for a viewer", "viewer", "/fleet"],
  ["updates paused", "operator", "/fleet?live=off"],
  ["no such page", "operator", "/other"],
  ["no such command", "operator", "/failures/nothing"],
  ["no such operation", "operator", "/operations/00000000-0000-0000-0000-000000000000"],
];

const found = [];

async function look(page, name, options) {
  const { width } = page.viewportSize();
  const at = `${name}, ${width} px`;
  const [needs, has] = await page.evaluate(() => {
    const root = document.documentElement;
    return [root.scrollWidth, root.clientWidth];
  });
  if (needs > has) found.push(`${at}: it scrolls sideways: ${needs} px in ${has}`);
  for (const id of await repeatedIds(page)) found.push(`${at}: two elements have the id ${id}`);
  for (const finding of await findings(page, options)) found.push(`${at}: ${finding}`);
}

/** A label would be that of the first of them. */
function repeatedIds(page) {
  return page.evaluate(() => {
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    return ids.filter((id, place) => ids.indexOf(id) < place);
  });
}

async function lookAround(page, name) {
  const [wide, narrow, huge] = [1280, 320, 2560].map((width) => ({ width, height: 800 }));
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(wide);
  await look(page, `${name}, light`);
  await page.setViewportSize(narrow);
  await look(page, `${name}, light`, { ofStyleAlone: true });
  await page.emulateMedia({ colorScheme: "dark" });
  await look(page, `${name}, dark`, { ofStyleAlone: true });
  await page.setViewportSize(wide);
  await look(page, `${name}, dark`, { ofStyleAlone: true });
  await page.emulateMedia({ colorScheme: "light", forcedColors: "active" });
  await page.setViewportSize(huge);
  await look(page, `${name}, forced colours`, { ofStyleAlone: true });
  await page.emulateMedia({ forcedColors: "none" });
}

async function lookAtScreens(browser) {
  const people = {};
  for (const who of Object.keys(tokens)) people[who] = await signedIn(browser, who);
  for (const [name, who, path, action] of SCREENS) {
    const { page } = people[who];
    await page.setViewportSize({ width: 1280, height: 800 });
    await open(page, path);
    if (action) {
      await page.getByRole("button", { name: action }).first().click();
      await settled(page);
    }
    await lookAround(page, name);
  }
  await lookAtRefusal(people.viewer.page);
  for (const { complaints } of Object.values(people)) found.push(...complaints);
}

/** A viewer has no form of an action: this one is made up. */
async function lookAtRefusal(page) {
  await open(page, "/fleet");
  await page.evaluate(() => {
    const form = Object.assign(document.createElement("form"), { method: "post", action: "/act/resume" });
    document.body.append(form);
    form.submit();
  });
  await page.getByText("Your role does not allow this").waitFor();
  await lookAround(page, "no permission");
}

async function lookAtSignIn(browser) {
  const page = await browser.newPage();
  const complaints = complaintsOf(page);
  await page.goto(`${url}/failures`);
  await lookAround(page, "sign-in");
  await page.getByLabel("Token").fill("a-token-of-nobody");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await lookAround(page, "sign-in, refused");
  found.push(...complaints);
}

async function lookAtBrokerAway(browser) {
  const context = await browser.newContext({ extraHTTPHeaders: { authorization: `Bearer ${tokens.viewer}` } });
  const page = await context.newPage();
  const complaints = complaintsOf(page);
  await page.goto(process.env.AWAY_URL);
  await page.getByText("can't be reached").first().waitFor();
  await lookAround(page, "the broker is away");
  found.push(...complaints);
}

try {
  await inBrowser(async (browser) => {
    await lookAtSignIn(browser);
    await lookAtScreens(browser);
    await lookAtBrokerAway(browser);
  });
} finally {
  for (const finding of found) console.log(finding);
}
assert.equal(found.length, 0, "findings");
