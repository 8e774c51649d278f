// axe-core in a page whose policy stays in force: what the rules of WCAG 2.2 AA and good practice find wrong.

import { readFileSync } from "node:fs";

const SOURCE = readFileSync(process.env.AXE, "utf8");

const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"];

/** What they find depends on colours or on the window's width. No other rule looks at these. */
const RULES_OF_STYLE = [
  "color-contrast",
  "link-in-text-block",
  "meta-viewport",
  "scrollable-region-focusable",
  "target-size",
];

const ALL_RULES = { runOnly: { type: "tag", values: TAGS }, rules: { "target-size": { enabled: true } } };

/** A line for each finding. */
export async function findings(page, { ofStyleAlone = false } = {}) {
  // The debugger evaluates it, which the page's policy allows, as it is no script of the page.
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(`(() => { ${SOURCE} })()`);
  const rules = ofStyleAlone ? { runOnly: { type: "rule", values: RULES_OF_STYLE } } : ALL_RULES;
  const options = { ...rules, resultTypes: ["violations"] };
  const { violations } = await page.evaluate((given) => window.axe.run(document, given), options);
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${help}: ${html.slice(0, 200)}: ${failureSummary.replace(/\s+/g, " ")}`),
  );
}
