// How long a page keeps a browser from answering: from the start of its loading to the answer of a search. The limit is a second, on a machine that does
// nothing else. What is held here is what does not depend on the machine: the time that the page's thread had a CPU, as a multiple of what
// the same picture takes that nothing can be done with.
import { browser, dir } from "./browser.mjs";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import assert from "node:assert/strict";

// Seconds until `ready`, and those of them that the page's thread had a CPU.
async function loaded(file, ready) {
  const page = await browser.newPage({ viewport: { width: 1240, height: 700 } });
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const busy = async () => (await session.send("Performance.getMetrics")).metrics.find((metric) => metric.name === "TaskDuration").value;
  const before = await busy(), begun = Date.now();
  await page.goto(`file://${dir}/${file}`);
  // Until it is on the screen.
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))));
  const shown = (Date.now() - begun) / 1e3;
  await ready(page);
  const times = { shown, wall: (Date.now() - begun) / 1e3, used: await busy() - before, frames: await page.locator("g.f").count() };
  await page.close();
  return times;
}

async function search(page) {
  await page.keyboard.press("/");
  await page.keyboard.type("e");
  await page.waitForFunction(() => document.querySelector("#matched").textContent.startsWith("matched:"));
}

for (const file of process.argv.slice(3)) {
  writeFileSync(`${dir}/bare.html`, readFileSync(`${dir}/${file}`, "utf8").replace(/<script[^]*?<\/script>/g, ""));
  const least = (all) => all.reduce((a, b) => (a.used < b.used ? a : b));
  const bare = [], ours = [];
  for (let nth = 0; nth < 3; nth++) {
    bare.push(await loaded("bare.html", async () => {}));
    ours.push(await loaded(file, search));
  }
  const [a, b] = [least(ours), least(bare)];
  console.log(`${file}: ${statSync(`${dir}/${file}`).size} bytes, ${a.frames} frames: shown in ${a.shown.toFixed(3)} s, searched by ${a.wall.toFixed(3)} s, ${a.used.toFixed(3)} s of its thread, ${(a.used / b.used).toFixed(2)} times the bare picture`);
  assert.ok(a.frames > 1000 && b.used > 0 && a.used <= 3 * b.used, JSON.stringify([a, b]));
}
await browser.close();
