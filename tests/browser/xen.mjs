// The page of a Xen host, in Chromium: a lane for each domain beside those of the CPUs, domains as the outermost frames, and the table by domain.
// What is expected comes from the report's and the flame graph's own JSON.
import { browser, dir, frame, open, visible, width } from "./browser.mjs";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

const json = (file) => JSON.parse(readFileSync(`${dir}/${file}`, "utf8"));
const event = json("xen.json").events[0], domains = json("xen-domains.json").events[0].rows, graph = json("xen-flame.json");
const cpus = json("xen-cpus.json").events[0].rows;
assert.deepEqual(domains.map((row) => row.domain).sort(), ["Domain-0", "pv1", "pv2"]);

const { page, errors, requests } = await open("xen.html");

// Lanes: each CPU, each domain, with its samples.
const lanes = {};
for (const row of await page.locator("#activity tr").all()) lanes[await row.locator("th").textContent()] = Number(await row.locator("td.n").first().textContent());
const expected = [...cpus.map((row) => [`CPU ${row.cpu}`, row.samples]), ...domains.map((row) => [row.domain, row.samples])];
assert.deepEqual(lanes, Object.fromEntries(expected));
for (const row of domains) assert.equal(await page.getByRole("img", { name: `${row.domain}: ${row.samples} samples over time` }).count(), 1);

// Domains stand on the root, as wide as their shares of the host's time, and nothing else does.
const outermost = page.locator("g.f[aria-level='2']");
assert.deepEqual(await outermost.evaluateAll((all) => all.map((g) => g.querySelector("title").textContent.split("\n")[0]).sort()), domains.map((row) => row.domain).sort());
for (const { name, share } of graph.frames.filter((f) => f.depth === 1)) {
  const drawn = await width(outermost.filter({ has: page.locator("title", { hasText: new RegExp(`^${name}\n`) }) }));
  assert.ok(Math.abs(drawn - share * 1180) < 0.01, `${name}: ${drawn} of ${share}`);
}
// A click on a domain shows it alone; what ran in it is under it.
const heavy = frame(page, "heavy").first(), before = await visible(page);
assert.ok(await heavy.isVisible());
await outermost.filter({ has: page.locator("title", { hasText: /^pv1\n/ }) }).click();
assert.ok(await visible(page) < before && await heavy.isVisible());
assert.equal(await frame(page, "spin").first().isVisible(), false);
await page.screenshot({ path: `${dir}/xen.png`, fullPage: true });
await page.locator("#reset").click();
assert.equal(await visible(page), before);

// The table is the report's, with the domain first.
const heads = await page.locator("#table thead th").allTextContents();
assert.ok(heads.includes("Domain"), heads);
const rows = await page.locator("#table tbody tr").evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
const at = heads.indexOf("Domain");
assert.deepEqual(rows.map((row) => [row[at], Number(row[2])]), event.rows.map((row) => [row.domain, row.samples]));

assert.deepEqual([errors, requests], [[], [`file://${dir}/xen.html`]], "it asks for nothing else");
await browser.close();
console.log("page of a Xen host in a browser: ok");
