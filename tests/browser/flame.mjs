// What a person does with a flame graph, done in Chromium: load, search, click, keys, reset, dark and light; and what
// a screen reader is told. What is expected is computed from the graph's own JSON.
import { browser, dir, frame, open, visible, width } from "./browser.mjs";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

const graph = JSON.parse(readFileSync(`${dir}/deep.json`, "utf8"));
// The share of what matches, counted once where matches call each other: frames stand in depth-first order.
function matched(word) {
  let share = 0, frames = 0, inside = -1;
  for (const frame of graph.frames) {
    if (inside >= 0 && frame.depth <= inside) inside = -1;
    const hit = frame.depth > 0 && frame.name.toLowerCase().includes(word);
    if (hit) frames++;
    if (hit && inside < 0) { share += frame.share; inside = frame.depth; }
  }
  return { share: (share * 100).toFixed(2), frames };
}

async function walk(file, search) {
  const { page, errors, requests } = await open(file);
  assert.equal(await page.locator("g.f").count(), graph.frames.length, `${file}: frames`);
  const touch = frame(page, "touch"), before = await width(touch);
  const truth = graph.frames.find((f) => f.name === "touch");
  assert.ok(truth.samples >= 20000, `touch has ${truth.samples} samples`);
  assert.ok(Math.abs(before - truth.share * 1180) < 0.01, `${file}: width ${before} of share ${truth.share}`);
  assert.equal(await frame(page, "deeper").count(), 10);

  // Search says the matched share.
  await search(page, "deeper");
  const { share, frames } = matched("deeper");
  assert.equal(await page.locator("#matched").textContent(), `matched: ${share} % in ${frames} frames`);
  assert.equal(await page.locator("g.hit").count(), frames);
  await page.screenshot({ path: `${dir}/${file}.search.png` });

  // A click zooms: the frame is as wide as all was, its callers too, the rest is gone.
  await touch.click();
  assert.ok(Math.abs(await width(touch) - 1180) < 0.01);
  assert.ok(Math.abs(await width(frame(page, "all")) - 1180) < 0.01);
  const shown = await visible(page);
  assert.ok(shown < graph.frames.length && shown > 12, `${shown} frames shown`);
  await page.screenshot({ path: `${dir}/${file}.zoom.png` });

  // Esc resets zoom and search.
  await page.keyboard.press("Escape");
  assert.ok(Math.abs(await width(touch) - before) < 0.01);
  assert.equal(await visible(page), graph.frames.length);
  assert.equal(await page.locator("g.hit").count(), 0);

  // Keys: from the root upwards to its widest callee, Enter zooms, downwards back to the root.
  await frame(page, "all").focus();
  await page.keyboard.press("ArrowUp");
  const level = () => page.evaluate(() => document.activeElement.getAttribute("aria-level"));
  assert.equal(await level(), "2");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  assert.ok(await visible(page) <= graph.frames.length);
  assert.ok(Math.abs(await page.evaluate(() => Number(document.activeElement.querySelector("rect").getAttribute("width"))) - 1180) < 0.01);
  await page.keyboard.press("ArrowDown");
  assert.equal(await level(), "2");
  await page.locator("#reset").click();
  assert.equal(await visible(page), graph.frames.length);

  // Names and shares are told to those who do not see.
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  const items = nodes.filter((node) => node.role && node.role.value === "treeitem").map((node) => node.name.value);
  assert.equal(items.length, graph.frames.length, `${file}: tree items`);
  const said = `touch ${truth.samples} samples, ${(truth.share * 100).toFixed(2)} %, user`;
  assert.ok(items.some((item) => item.replace(/\s+/g, " ") === said), `${said}: ${items.slice(0, 5)}`);

  assert.deepEqual(errors, [], file);
  assert.deepEqual(requests, [`file://${dir}/${file}`], "it asks for nothing else");
  await page.close();
}

await walk("deep.html", async (page, word) => { await page.keyboard.press("/"); await page.keyboard.type(word); });
await walk("deep.svg", async (page, word) => {
  page.once("dialog", (dialog) => dialog.accept(word));
  await page.keyboard.press("/");
});

// Dark and light.
for (const [colorScheme, expected] of [["dark", "rgb(22, 24, 29)"], ["light", "rgb(255, 255, 255)"]]) {
  const { page, errors } = await open("deep.html", { colorScheme });
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(background, expected);
  await page.screenshot({ path: `${dir}/${colorScheme}.png` });
  assert.deepEqual(errors, []);
  await page.close();
}

// Inverted, with changes: the root is on top, what is new is red, and says by how much.
{
  const { page, errors } = await open("diff.html");
  const y = async (name) => Number(await frame(page, name).first().locator("rect").getAttribute("y"));
  assert.ok(await y("all") < await y("touch"));
  const title = await frame(page, "deeper").first().locator("title").textContent();
  assert.match(title, /, \+\d+\.\d\d points$/);
  assert.match(await frame(page, "deeper").first().locator("rect").getAttribute("fill"), /^hsl\(0,/);
  await page.screenshot({ path: `${dir}/diff.png` });
  assert.deepEqual(errors, []);
}

// By time: the threads (the shell, its child before and after it became the first storm, the second) one beside the other, the frames of each in their order; a legend of what there is.
{
  const chart = JSON.parse(readFileSync(`${dir}/chart.json`, "utf8"));
  const { page, errors } = await open("chart.html");
  assert.equal(await page.locator("g.f").count(), chart.frames.length);
  const threads = chart.frames.filter((f) => f.depth === 1);
  assert.deepEqual(threads.map((f) => f.name.split(" ")[0]), ["bash", "bash", "storm", "storm"]);
  const x = async (name) => Number(await frame(page, name).locator("rect").getAttribute("x"));
  for (const thread of threads) assert.ok(Math.abs(await x(thread.name) - 10 - thread.start * 1180) < 0.01, thread.name);
  assert.match(await page.locator("main").textContent(), /Every thread by itself, from left to right in the order of its samples/);
  const legend = await page.locator(".legend li").allTextContents();
  assert.deepEqual(legend, ["thread", "user", "inlined", "JIT", "kernel", "hypervisor", "too small to show"]
    .filter((kind) => chart.frames.some((f) => f.kind === kind)));
  await page.screenshot({ path: `${dir}/chart.png` });
  assert.deepEqual(errors, []);
  await page.close();
}

await browser.close();
console.log("pages in a browser: ok");
