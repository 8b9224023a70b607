// What the tests of the dashboard share: a server by psql, dashboards, browsers, and waiting for facts.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

export const BINARY = process.env.MY_WORKER_WEB;
export const SHOTS = process.env.SHOTS;
mkdirSync(SHOTS, { recursive: true });

// A busy machine makes the dashboard look rarely: every 10 s at the rarest, and at some pages' rows 15 s after that.
const PATIENCE = 60_000;

export function sql(text, user = 'postgres') {
  const env = { ...process.env, PGUSER: user, PGAPPNAME: 'test', PGPASSWORD: `${user}'s word` };
  return execFileSync('psql', ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', text], { env, encoding: 'utf8' }).trim();
}

export async function waitFor(fact, what) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const value = await fact();
    if (value) return value;
    assert.ok(Date.now() < deadline, `waited in vain: ${what}`);
    await sleep(50);
  }
}

export const ended = (job) => waitFor(() => /completed|failed|cancelled/.test(sql(`SELECT status FROM my_worker.jobs WHERE id = ${job}`)), `job ${job} ends`);

const dashboards = [];

// Starts a dashboard on a free port; resolves to its address.
export async function dashboard(...options) {
  const child = spawn(BINARY, ['--listen', '127.0.0.1:0', ...options], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  child.stdout.on('data', (data) => { out += data; });
  child.stderr.on('data', (data) => { child.log += data; });
  child.log = '';
  dashboards.push(child);
  const url = await waitFor(() => /http:\S+[0-9]/.exec(out)?.[0], 'the dashboard starts');
  return { url, child };
}

let browser;

export async function openBrowser() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
}

export async function closeAll() {
  await browser?.close();
  for (const child of dashboards) child.kill();
}

// A viewer of a dashboard. What no page may do is noted in `faults`: an error in the console, a request to another
// host, a dialog. `expects` takes those away that a test provokes.
export async function viewer(url, options = {}) {
  const { expects = [], ...rest } = options;
  const context = await browser.newContext({ baseURL: url, viewport: { width: 1400, height: 900 }, reducedMotion: 'reduce', ...rest });
  context.setDefaultTimeout(PATIENCE);
  const faults = [];
  const note = (text) => { if (!expects.some((one) => one.test(text))) faults.push(text); };
  context.on('request', (request) => { if (new URL(request.url()).origin !== url) note(`request to ${request.url()}`); });
  const page = await context.newPage();
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) note(`console: ${message.text()}`); });
  page.on('pageerror', (error) => note(`error: ${error.message}`));
  page.on('dialog', (dialog) => { note(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  return { page, context, faults };
}

// Runs a test as a viewer, and sees to it that nothing went wrong beside.
export const as = (getUrl, block, options) => async () => {
  const { page, context, faults } = await viewer(getUrl(), options);
  try {
    await block(page, context);
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
  }
};

export async function logIn(page, role, password = `${role}'s word`) {
  await page.goto('/');
  await page.getByLabel('Role').fill(role);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.waitForLoadState('load');
}

export const text = async (page) => (await page.locator('body').innerText());

export const cell = (page, queue, label) =>
  page.locator('table.queues tbody tr', { has: page.getByRole('rowheader', { name: queue, exact: true }) }).locator(`td[data-label="${label}"]`);

// Waits for a text in the page as it is, without loading it again.
export const shows = (page, what) => page.waitForFunction((what) => document.body.innerText.includes(what), what, { timeout: PATIENCE });

// Whether each text stands out from its ground as WCAG AA wants it: 4.5 to 1, large text 3 to 1; and what is no text, but
// has to be seen, by 3 to 1: the edges of fields, and what charts draw.
export const faintTexts = (page) => page.evaluate(() => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return Array.from(canvas.getImageData(0, 0, 1, 1).data);
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  const contrast = (one, other) => {
    const [a, b] = [light(rgba(one)), light(other)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const note = (element, what, ratio, least) => { if (ratio < least) faint.add(`${element.tagName}.${element.getAttribute('class')}${what} ${ratio.toFixed(2)}`); };
  for (const field of document.querySelectorAll('input:not([type=hidden]), select')) {
    if (!field.checkVisibility()) continue;
    if (field.placeholder) note(field, ' placeholder', contrast(getComputedStyle(field, '::placeholder').color, ground(field)), 4.5);
    if (field.type !== 'checkbox') note(field, ' edge', contrast(getComputedStyle(field).borderTopColor, ground(field.parentElement)), 3);
  }
  for (const drawn of document.querySelectorAll('svg path:not(.base), svg rect:not(.all)')) {
    const style = getComputedStyle(drawn);
    const colour = style.stroke === 'none' ? style.fill : style.stroke;
    if (colour !== 'none' && drawn.closest('svg').checkVisibility()) note(drawn, ' drawn', contrast(colour, ground(drawn.closest('svg').parentElement)), 3);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest('svg, dialog')) continue;
    const style = getComputedStyle(element);
    note(element, '', contrast(style.color, ground(element)), parseFloat(style.fontSize) >= 24 ? 3 : 4.5);
  }
  return Array.from(faint);
});
