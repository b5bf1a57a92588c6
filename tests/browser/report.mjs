// What a person does with a report page, done in Chromium: load, read, search, click, reset, dark and light. What is expected
// comes from the report's own JSON; a function and a thread of the recording have names that mean harm.
import { browser, dir, frame, open, visible, width } from "./browser.mjs";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

const EVIL = "</script><img src=x onerror=alert(1)>";
const table = JSON.parse(readFileSync(`${dir}/evil.json`, "utf8")).events[0];
const cpus = JSON.parse(readFileSync(`${dir}/evil-cpu.json`, "utf8")).events[0].rows;

const { page, errors, requests } = await open("evil.html");
let dialogs = 0;
page.on("dialog", (dialog) => { dialogs++; dialog.dismiss(); });

// Everything is there, and nothing that a name smuggled in.
for (const id of ["summary", "flame", "activity", "table", "environment"]) assert.equal(await page.locator(`section#${id}`).count(), 1, id);
assert.equal(await page.locator("img").count(), 0);
assert.equal(await page.locator("script").count(), 1);
const summary = await page.locator("#summary tbody tr").first().locator("td").allTextContents();
assert.deepEqual(summary, [table.name, String(table.samples), String(table.period), String(table.lost)]);

// The table is the report's.
const rows = page.locator("#table tbody tr");
assert.equal(await rows.count(), Math.min(table.rows.length, 1000));
const first = await rows.first().locator("td").allTextContents();
const hot = table.rows[0];
assert.deepEqual(first.slice(0, 3), [`${hot.children.toFixed(2)} %`, `${hot.self.toFixed(2)} %`, String(hot.samples)]);

// Samples over time: one row for each CPU, with its samples, and a picture that says so.
const shown = {};
for (const row of await page.locator("#activity tr").all()) shown[await row.locator("th").textContent()] = Number(await row.locator("td.n").first().textContent());
assert.deepEqual(shown, Object.fromEntries(cpus.map((row) => [`CPU ${row.cpu}`, row.samples])));
for (const row of cpus) assert.equal(await page.getByRole("img", { name: `CPU ${row.cpu}: ${row.samples} samples over time` }).count(), 1);

// A click on a function looks for it: frames are marked, other rows go.
const all = await page.locator("g.f").count();
const evil = table.rows.find((row) => row.symbol === EVIL);
assert.ok(evil.samples > 0 && table.rows.indexOf(evil) < 1000, JSON.stringify(evil));
await page.locator("button.find", { hasText: EVIL }).first().click();
assert.equal(await page.locator("#term").inputValue(), EVIL);
assert.ok(await page.locator("g.hit").count() >= 1);
const left = await page.locator("#table tbody tr:not(.off)").count();
assert.equal(left, table.rows.slice(0, 1000).filter((row) => row.symbol === EVIL).length);
assert.match(await page.locator("#matched").textContent(), /^matched: \d+\.\d\d % in \d+ frames$/);
await page.screenshot({ path: `${dir}/report.search.png`, fullPage: true });

// A click on a frame zooms; the button and Esc reset.
const hit = page.locator("g.hit").first(), before = await width(hit);
await hit.click();
assert.ok(Math.abs(await width(hit) - 1180) < 0.01);
assert.ok(await visible(page) < all);
await page.locator("#reset").click();
assert.ok(Math.abs(await width(hit) - before) < 0.01);
await page.locator("h1").click();
await page.keyboard.press("Escape");
assert.equal(await page.locator("#table tbody tr.off").count(), 0);
assert.equal(await page.locator("g.hit").count(), 0);
assert.equal(await frame(page, "all").count(), 1);

// What the machine and the recording were.
const facts = await page.locator("#environment dt").allTextContents();
for (const fact of ["Recording", "Command", "Host", "Kernel", "Processor"]) assert.ok(facts.includes(fact), `${fact}: ${facts}`);
assert.deepEqual([errors, dialogs, requests], [[], 0, [`file://${dir}/evil.html`]], "it asks for nothing else");

for (const colorScheme of ["dark", "light"]) {
  await page.emulateMedia({ colorScheme });
  await page.screenshot({ path: `${dir}/report.${colorScheme}.png` });
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(background, colorScheme === "dark" ? "rgb(22, 24, 29)" : "rgb(255, 255, 255)");
}

// Of two events one is looked at: its picture, its samples over time; the search stays.
{
  const { page, errors } = await open("events.html");
  const events = JSON.parse(readFileSync(`${dir}/events-cpu.json`, "utf8")).events.filter((event) => event.samples > 0);
  assert.deepEqual(await page.locator("#event option").allTextContents(), events.map((event) => event.name));
  await page.locator("#term").fill("^deeper$");
  for (const [nth, event] of [...events.entries(), [0, events[0]]]) {
    await page.locator("#event").selectOption({ index: nth });
    const pictures = await page.locator("svg.flame").evaluateAll((all) => all.map((svg) => svg.getBoundingClientRect().height > 0));
    assert.deepEqual(pictures, events.map((_, at) => at === nth));
    const root = page.locator("svg.flame").nth(nth).locator("g.f").first();
    const samples = event.rows.reduce((sum, row) => sum + row.samples, 0);
    assert.match(await root.locator("title").textContent(), new RegExp(`^all\n${samples} samples, 100.00 %`));
    const shown = await page.locator("#activity tr:visible td.n:nth-child(3)").allTextContents();
    assert.equal(shown.reduce((sum, text) => sum + Number(text), 0), samples);
    // Each picture is zoomed for itself.
    const hit = page.locator("svg.flame").nth(nth).locator("g.hit").first();
    assert.match(await page.locator("#matched").textContent(), /^matched: [1-9]/);
    await hit.click();
    assert.ok(Math.abs(await width(hit) - 1180) < 0.01);
  }
  assert.deepEqual(errors, []);
}
await browser.close();
console.log("report page in a browser: ok");
