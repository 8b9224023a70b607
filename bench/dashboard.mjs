// Measures the dashboard over the server of bench/dashboard, which says in the environment where it is. Prints Markdown.

import { execFileSync, spawn } from 'node:child_process';
import { openSync, closeSync, readSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const { MY_WORKER_WEB, PGLOG, CHROMIUM, SHOT } = process.env;
const REPEAT = Number(process.env.REPEAT);
const IDLE = Number(process.env.IDLE);

const sql = (text) => execFileSync('psql', ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', text], { encoding: 'utf8', env: { ...process.env, PGUSER: 'postgres' } }).trim();
const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)];
const ms = (n) => (n < 10 ? n.toFixed(1) : n.toFixed(0));
const say = (text) => process.stdout.write(`${text}\n`);
const table = (head, rows) => {
  say(`\n| ${head.join(' | ')} |\n|---|${head.slice(1).map(() => '---:|').join('')}`);
  for (const row of rows) say(`| ${row.join(' | ')} |`);
};

async function found(text) {
  for (let i = 0; i < 600; i += 1) {
    const answer = sql(text);
    if (answer) return answer;
    await sleep(100);
  }
  throw new Error(`nothing: ${text}`);
}

// ---- the dashboard and its log ------------------------------------------------------------------

async function start(user, more = []) {
  const child = spawn(MY_WORKER_WEB, ['--listen', '127.0.0.1:0', ...more], { env: { ...process.env, PGUSER: user }, stdio: ['ignore', 'pipe', 'ignore'] });
  process.on('exit', () => child.kill());
  const url = await new Promise((resolve, reject) => {
    let out = '';
    child.stdout.on('data', (data) => { out += data; const found = /http:\S+[0-9]/.exec(out); if (found) resolve(found[0]); });
    child.on('exit', () => reject(new Error('the dashboard has ended')));
  });
  return { child, url };
}

const stop = (one) => new Promise((resolve) => { one.child.on('exit', resolve); one.child.kill(); });

// What the server has logged since: each step of a statement with its time by the clock and that of the processor. The
// second is what counts where others want the processors as well.
const logEnd = () => statSync(PGLOG).size;
const STEP = /LOG: {2}(\w+) MESSAGE STATISTICS\n[^!]*! system usage stats:\n\t!\t([\d.]+) s user, ([\d.]+) s system, ([\d.]+) s elapsed[\s\S]*?STATEMENT: {2}([^\n]*)/g;
function steps(since) {
  const buffer = Buffer.alloc(logEnd() - since);
  const file = openSync(PGLOG);
  readSync(file, buffer, 0, buffer.length, since);
  closeSync(file);
  return Array.from(buffer.toString().matchAll(STEP), ([, step, user, system, clock, text]) =>
    ({ cpu: (Number(user) + Number(system)) * 1000, clock: Number(clock) * 1000, text: `${step.toLowerCase()} ${text}` }));
}
const most = (all, what) => all.reduce((a, b) => (b[what] > a[what] ? b : a), { cpu: 0, clock: 0, text: '–' });

// Over the repetitions: the dearest statement of each, the median of these by both clocks, and its text.
function dearest(rounds) {
  const dear = rounds.map((all) => most(all, 'cpu'));
  const middle = dear.toSorted((a, b) => a.cpu - b.cpu)[Math.floor(dear.length / 2)];
  return { cpu: middle.cpu, clock: Math.min(...rounds.map((all) => most(all, 'clock').clock)), text: middle.text.slice(0, 70).replaceAll('|', '\\|') };
}

const status = (pid, what) => Number(new RegExp(`${what}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;

// Nanoseconds of processor.
const cpuOf = (pid) => { try { return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]); } catch { return 0; } };

// ---- pages ----------------------------------------------------------------------------------------

function curl(url, ...more) {
  const out = execFileSync('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code} %{time_starttransfer} %{time_total} %{size_download}', ...more, url], { encoding: 'utf8' });
  const [code, first, last, size] = out.split(' ').map(Number);
  if (code !== 200) throw new Error(`${url}: ${code}`);
  return { first: first * 1000, last: last * 1000, size };
}

// The processor's time of the dashboard and of its sessions, in ms.
const own = (one) => [cpuOf(one.child.pid), ...sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'my_worker_web'").split('\n').filter(Boolean).map(cpuOf)]
  .reduce((a, b) => a + b, 0) / 1e6;

const TIMES = ['first byte, least', 'last byte, least', 'last byte, median', 'processor', 'dearest statement: processor', 'by the clock, least', ''];
const row = (name, rounds) => {
  const dear = dearest(rounds.map((round) => round.steps));
  return [name, ms(Math.min(...rounds.map((r) => r.first))), ms(Math.min(...rounds.map((r) => r.last))), ms(median(rounds.map((r) => r.last))),
    ms(median(rounds.map((r) => r.cpu))), ms(dear.cpu), ms(dear.clock), dear.cpu > 15 ? dear.text : ''];
};

// Right after its start, as the first viewer ever meets it.
async function firstPages() {
  const rows = [];
  for (const user of ['dash', 'shop', 'rare']) {
    const rounds = [];
    for (let i = 0; i < REPEAT; i += 1) {
      const since = logEnd();
      const one = await start(user);
      const got = curl(one.url);
      rounds.push({ ...got, cpu: own(one), steps: steps(since) });
      await stop(one);
    }
    rows.push(row(user, rounds));
  }
  say('\nThe first page after the start of the dashboard, with the connection, in ms:');
  table(['role', ...TIMES], rows);
}

async function paths() {
  const history = Number(process.env.HISTORY);
  const waits = await found("SELECT id FROM my_worker._jobs WHERE queue = 'queue 0001' ORDER BY id LIMIT 1");
  const runs = await found("SELECT job_id FROM my_worker.workers WHERE kind = 'worker' AND queue = 'default' AND job_id IS NOT NULL LIMIT 1");
  const failed = await found(`SELECT id FROM my_worker.history WHERE id BETWEEN ${Math.floor(history / 2)} AND ${Math.floor(history / 2) + 1000} AND status = 'failed' LIMIT 1`);
  const blocked = await found("SELECT id FROM my_worker._jobs WHERE status = 'blocked' ORDER BY id DESC LIMIT 1");
  const held = await found("SELECT job_id FROM my_worker.workers WHERE kind = 'consumer' AND job_id IS NOT NULL LIMIT 1");
  const followed = await found('SELECT after FROM my_worker._dependencies ORDER BY after LIMIT 1');
  const filters = ['', 'status=due', 'status=later', 'status=blocked', 'status=processing', 'status=completed', 'status=failed', 'status=cancelled',
    'queue=queue+0500', 'queue=queue+0500&status=completed', 'queue=queue+0004&status=due', 'queue=no+such', 'kind=mail', 'kind=rare', 'handler=app.rare', 'owner=rare', 'owner=shop',
    'key=key+300', 'key=none', 'text=needle', 'text=ada@example.com', 'queue=queue+0003&status=failed&kind=mail'];
  return ['/', '/?sort=waiting&page=5', '/?q=00&sort=name', '/queue?name=queue+0003', '/queue?name=queue+0004',
    ...filters.map((one) => `/jobs?${one}`), `/jobs?text=needle&below=${history}`, `/jobs?owner=rare&below=${history}`,
    ...Object.entries({ waits, runs, failed, blocked, held, followed }).map(([what, id]) => `/job/${id}#${what}`),
    '/schedules', '/schedules?q=schedule+01999', '/schedules?after=schedule+01000&id=1000', '/schedules/preview?schedule=0+3+*+*+mon-fri',
    '/processes', '/consumers', '/dead', '/handlers', '/settings'];
}

// Each page several times, with a fresh look each time; warm.
async function pages(user) {
  const one = await start(user);
  curl(one.url);
  const rows = [];
  for (const path of await paths()) {
    const rounds = [];
    let size = 0;
    for (let i = 0; i < REPEAT + 1; i += 1) {
      await sleep(950);
      const [since, before] = [logEnd(), own(one)];
      const got = curl(one.url + path.replace(/#.*/, ''));
      // The first time is not counted: pages of tables come from the disk, statements are prepared.
      if (i > 0) rounds.push({ ...got, cpu: own(one) - before, steps: steps(since) });
      size = got.size;
    }
    const name = path.replace(/^(\/job\/)\d+#(.*)/, '$1 $2');
    rows.push([...row(`\`${name}\``, rounds), Math.round(size / 1024)]);
  }
  say(`\nPages as ${user}, in ms:`);
  table(['page', ...TIMES, 'KiB'], rows);
  say(`\nAfter these pages the dashboard has ${ms(status(one.child.pid, 'VmRSS'))} MiB of memory, at most ${ms(status(one.child.pid, 'VmHWM'))}.`);
  await stop(one);
}

// ---- a browser --------------------------------------------------------------------------------------

async function inBrowser(browser) {
  const rows = [];
  const one = await start('dash');
  for (const path of ['/', '/jobs', '/schedules']) {
    const all = [];
    for (let i = 0; i < REPEAT; i += 1) {
      const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
      const page = await context.newPage();
      await sleep(950);
      await page.goto(one.url + path, { waitUntil: 'load' });
      await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint').length > 0);
      all.push(await page.evaluate(() => {
        const [n] = performance.getEntriesByType('navigation');
        return [n.responseStart, n.responseEnd, n.domContentLoadedEventEnd, performance.getEntriesByName('first-contentful-paint')[0].startTime];
      }));
      if (i === 0 && path === '/') { await sleep(3000); await page.screenshot({ path: SHOT }); }
      await context.close();
    }
    rows.push([`\`${path}\``, ...[0, 1, 2, 3].map((n) => ms(median(all.map((one) => one[n]))))]);
  }
  await stop(one);
  say('\nIn a browser with an empty cache, medians in ms since the navigation began:');
  table(['page', 'first byte', 'last byte', 'DOM ready', 'first paint'], rows);
}

// What an open page costs while nothing happens: the dashboard and its session, since the rest of a server has work of its own. As a
// role of which nothing is logged.
async function openPage(browser) {
  sql("SELECT my_worker.pause_queue('default'), (SELECT count(my_worker.cancel(job_id)) FROM my_worker.workers WHERE queue = 'default' AND job_id IS NOT NULL)");
  await sleep(10_000);
  const rows = [];
  for (const path of ['/', '/jobs', '/schedules', '/processes']) {
    const one = await start('postgres');
    const page = await browser.newPage();
    await page.goto(one.url + path);
    await sleep(15_000);
    const session = sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'my_worker_web'");
    const before = [cpuOf(one.child.pid), cpuOf(session)];
    await sleep(IDLE * 1000);
    const [web, server] = [cpuOf(one.child.pid) - before[0], cpuOf(session) - before[1]].map((ns) => ns / 1e6 / IDLE);
    rows.push([`\`${path}\``, web.toFixed(2), server.toFixed(2), `${((web + server) / 10).toFixed(2)} %`]);
    await page.close();
    await stop(one);
  }
  say(`\nAn open page while nothing happens, ${IDLE} s, in ms of processor a second:`);
  table(['page', 'dashboard', 'its session', 'of a core'], rows);
}

const load = () => readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ');
say(`Load: ${load()}. Waiting: ${sql('SELECT sum(pending + scheduled) FROM my_worker.queue_stats')}, history: ${sql("SELECT reltuples::bigint FROM pg_class WHERE oid = 'my_worker.history'::regclass")}, queues: ${sql('SELECT count(*) FROM my_worker.queues')}. The binary has ${(statSync(MY_WORKER_WEB).size / 1e6).toFixed(1)} MB.`);
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'] });
const all = { firstPages, dash: () => pages('dash'), shop: () => pages('shop'), rare: () => pages('rare'), inBrowser: () => inBrowser(browser), openPage: () => openPage(browser) };
for (const name of process.env.ONLY ? process.env.ONLY.split(' ') : Object.keys(all)) await all[name]();
await browser.close();
say(`\nLoad at the end: ${load()}.`);
