// Chromium, a page in it, and the frames of a flame graph.
import { chromium } from "playwright-core";

export const dir = process.argv[2];
export const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

export async function open(file, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1240, height: 700 }, ...options });
  const errors = [], requests = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`file://${dir}/${file}`);
  return { page, errors, requests };
}

export const frame = (page, name) => page.locator("g.f", { has: page.locator("title", { hasText: new RegExp(`^${name}\n`) }) });
export const width = async (locator) => Number(await locator.locator("rect").getAttribute("width"));
export const visible = (page) => page.locator("g.f:not(.off)").count();
