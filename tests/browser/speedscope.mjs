// speedscope's own page reads what `xprof export --to speedscope` wrote, and Chrome's trace events: its table of functions has our
// report's numbers.
import { chromium } from "playwright-core";
import { readFileSync, writeFileSync } from "node:fs";
import assert from "node:assert/strict";

const dir = process.argv[2];
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--allow-file-access-from-files"] });

// The rows of the sandwich view: [total, self, name], values as speedscope prints them ("20,000 (97%)").
async function rows(file, name) {
  const source = `${dir}/${file}.js`;
  const bytes = readFileSync(`${dir}/${file}`).toString("base64");
  writeFileSync(source, `speedscope.loadFileFromBase64(${JSON.stringify(file)}, ${JSON.stringify(bytes)})`);
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(`file://${dir}/node_modules/speedscope/dist/release/index.html#localProfilePath=${source}`);
  await page.getByText("Sandwich").click();
  await page.locator("tr", { hasText: name }).first().waitFor();
  const read = () => page.locator("tr").evaluateAll((rows) => rows.map((row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent)));
  // Only what is on the screen is there: the heaviest by their own, then by all that they call.
  const found = await read();
  await page.getByText("Total", { exact: true }).click();
  found.push(...await read());
  await page.screenshot({ path: `${dir}/${file}.png` });
  assert.deepEqual(errors, [], file);
  await page.close();
  return found.filter((cells) => cells.length >= 3);
}

const report = JSON.parse(readFileSync(`${dir}/deep-report.json`, "utf8")).events[0];
const heavy = report.rows.filter((row) => row.period >= 20);
const number = (text) => Number(text.replace(/,/g, "").split(" ")[0].split("(")[0]);
{
  const table = await rows("deep.speedscope", "touch");
  for (const row of heavy) {
    const found = table.filter((cells) => cells[2] === row.symbol);
    assert.ok(found.some((cells) => number(cells[1]) === row.period), `${row.symbol}: ${row.period}, speedscope: ${JSON.stringify(found)}`);
  }
  // Everything stands on the thread.
  const thread = table.find((cells) => cells[2] === "storm");
  assert.equal(number(thread[0]), report.period);
}
// Chrome's trace events: spans, whose lengths are times and no counts.
{
  const table = await rows("deep.chrome", "touch");
  assert.ok(["touch", "deeper", "main"].every((name) => table.some((cells) => cells[2].startsWith(name))), JSON.stringify(table));
}
await browser.close();
console.log("speedscope: ok");
