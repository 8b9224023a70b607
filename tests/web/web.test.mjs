// The dashboard in a real browser, against a real server: the one that PGHOST and the like name, in PGDATA.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { as, cell, closeAll, dashboard, ended, faintTexts, logIn, openBrowser, shows, sql, SHOTS, text, viewer, waitFor } from './help.mjs';

const PAGES = ['/', '/queue?name=mail', '/jobs', '/schedules', '/processes', '/consumers', '/dead', '/handlers', '/settings'];
const EVIL = '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">';
const server = (...args) => execFileSync('pg_ctl', ['-s', '-w', '-D', process.env.PGDATA, '-l', process.env.PGLOG, ...args]);

let main;
let readOnly;
let asking;
const url = () => main.url;

before(async () => {
  sql('CREATE ROLE trusted LOGIN');
  execFileSync('psql', ['-Xq', '-v', 'ON_ERROR_STOP=1', '-f', new URL('seed.sql', import.meta.url).pathname], { stdio: ['ignore', 'ignore', 'inherit'] });
  // Roles that log in by a password, before the line that trusts all.
  const hba = `${process.env.PGDATA}/pg_hba.conf`;
  writeFileSync(hba, `local all ann,bob,watcher scram-sha-256\n${readFileSync(hba, 'utf8')}`);
  sql('SELECT pg_reload_conf()');
  await openBrowser();
  main = await dashboard();
  readOnly = await dashboard('--read-only');
  asking = await dashboard('--login');
});
after(closeAll);

const send = (queue, payload, more = '', user = undefined) =>
  sql(`INSERT INTO my_queue (queue, payload${more && ', '}${more.replace(/ = .*/, '')}) VALUES ('${queue}', '${payload}'${more && ', '}${more.replace(/.* = /, '')}) RETURNING id`, user);

test('the overview shows queues, what they did, and health', as(url, async (page) => {
  await ended(send('billing', '{"order": 1}'));
  await page.goto('/');
  await page.locator('a.health').waitFor();
  await waitFor(async () => (await cell(page, 'billing', 'Waiting').innerText()) === '0', 'it is counted');
  await waitFor(async () => (await cell(page, 'billing', 'Done').innerText()).trim() === '1', 'the end is counted');
  assert.match(await cell(page, 'billing', 'Last hour').locator('svg title').textContent(), /^1 done, 0 failed/);
  const checks = Number(sql('SELECT count(*) FROM my_worker.health()'));
  await waitFor(async () => (await page.locator('table.checks tbody tr').count()) === checks, 'all checks are listed');
}));

test('numbers change by themselves, and nothing moves', as(url, async (page) => {
  sql("SELECT my_worker.pause_queue('reports')");
  await page.goto('/?sort=name');
  const before = await page.locator('table.queues').boundingBox();
  sql("INSERT INTO my_queue (queue, payload) SELECT 'reports', '{\"order\": 1}' FROM generate_series(1, 1234)");
  await waitFor(async () => (await cell(page, 'reports', 'Waiting').innerText()) === '1,234', 'the count changes');
  assert.deepEqual(await page.locator('table.queues').boundingBox(), before);
  sql("SELECT my_worker.resume_queue('reports')");
  await waitFor(async () => (await cell(page, 'reports', 'Waiting').innerText()) === '0', 'the queue runs empty');
}));

test('an estimate says that it is one', as(url, async (page) => {
  sql("SELECT my_worker.pause_queue('reports')");
  sql("INSERT INTO my_queue (queue, payload) SELECT 'reports', '{\"order\": 1}' FROM generate_series(1, 3000)");
  await page.goto('/');
  const waiting = cell(page, 'reports', 'Waiting');
  await waitFor(async () => /^~[23],\d{3}$/.test(await waiting.innerText()), 'it is marked');
  assert.match(await waiting.locator('span[title]').getAttribute('title'), /estimate/);
  assert.match(await page.locator('#sum-due').innerText(), /^~[23],\d{3}$/);
  // Few jobs are counted one by one whatever the other queues have.
  assert.match(await cell(page, 'exports', 'Waiting').innerText(), /^\d+$/);
  await page.goto('/queue?name=reports');
  assert.match(await page.locator('#queue-due').innerText(), /^~[23],\d{3}$/);
  sql("SELECT my_worker.cancel(id) FROM my_queue WHERE queue = 'reports'");
  sql("SELECT my_worker.resume_queue('reports')");
  await waitFor(async () => (await page.locator('#queue-due').innerText()) === '0', 'none waits');
}));

test('a page that could not wait for the count is drawn anew when that is there', async () => {
  const holds = spawn('psql', ['-Xq', '-c', 'BEGIN; LOCK TABLE my_worker._jobs; SELECT pg_sleep(3)'], { stdio: 'ignore' });
  await waitFor(() => sql("SELECT count(*) FROM pg_locks WHERE relation = 'my_worker._jobs'::regclass AND mode = 'AccessExclusiveLock' AND granted") === '1', 'the table is locked');
  const one = await dashboard();
  await as(() => one.url, async (page) => {
    await page.goto('/');
    await page.getByText('So much waits that counting it takes a moment').waitFor();
    assert.equal(await cell(page, 'billing', 'Waiting').innerText(), '–');
    await page.getByText('So much waits').waitFor({ state: 'detached' });
    assert.equal(await cell(page, 'billing', 'Waiting').innerText(), '0');
  })();
  holds.kill();
});

test('a queue is paused and resumed by its button', as(url, async (page) => {
  await page.goto('/');
  await cell(page, 'exports', '').getByRole('button', { name: 'Pause' }).click();
  await shows(page, 'The queue is paused.');
  assert.equal(await cell(page, 'exports', 'State').innerText(), 'paused');
  assert.equal(sql("SELECT paused FROM my_worker.queues WHERE name = 'exports'"), 't');
  await cell(page, 'exports', '').getByRole('button', { name: 'Resume' }).click();
  await shows(page, 'The queue goes on.');
  assert.equal(sql("SELECT paused FROM my_worker.queues WHERE name = 'exports'"), 'f');
  // Said once, and not again.
  await page.reload();
  assert.doesNotMatch(await text(page), /The queue goes on/);
}));

test('a queue has a page with its day and its settings', as(url, async (page) => {
  await page.goto('/');
  await page.getByRole('link', { name: 'imports' }).click();
  await page.getByRole('heading', { name: 'Queue imports' }).waitFor();
  assert.match(await text(page), /2 in 01:00:00/);
  await page.getByRole('button', { name: 'Pause' }).click();
  await shows(page, 'The queue is paused.');
  await page.getByRole('button', { name: 'Resume' }).click();
  await shows(page, 'The queue goes on.');
}));

test('a list goes on below where it came to', as(url, async (page) => {
  sql("INSERT INTO my_queue (queue, payload) SELECT 'exports', jsonb_build_object('n', n) FROM generate_series(1, 120) AS n");
  await page.goto('/jobs?queue=exports');
  assert.equal(await page.locator('tbody tr').count(), 50);
  await page.getByText('Go on below id').click();
  await waitFor(async () => (await page.locator('tbody tr').count()) === 100, 'fifty more rows');
  await page.getByText('Go on below id').click();
  await waitFor(async () => (await page.locator('tbody tr').count()) === 120, 'the rest');
  await shows(page, 'No more jobs.');
  const ids = (await page.locator('tbody tr td:first-child').allInnerTexts()).map(Number);
  assert.deepEqual(ids, ids.toSorted((a, b) => b - a));
  assert.equal(new Set(ids).size, 120);
}));

test('filters find by status, queue, kind, handler, owner, key and text', as(url, async (page) => {
  const job = sql(`SELECT my_worker.send('exports', '{"name": "needle"}', kind := 'pdf', unique_key := 'k 1', run_at := now() + '1 h')`);
  const other = sql("SELECT my_worker.enqueue('shop.bill', '{}', run_at := now() + '1 h')");
  const found = async (query) => {
    await page.goto(`/jobs?${query}`);
    return page.locator('tbody tr td:first-child').allInnerTexts();
  };
  for (const query of ['text=needle', 'kind=pdf', 'key=k+1', 'queue=exports&status=later', 'owner=postgres&kind=pdf']) {
    assert.deepEqual(await found(query), [job], query);
  }
  assert.deepEqual(await found('handler=shop.bill&status=later'), [other]);
  assert.deepEqual(await found('owner=ann'), []);
  assert.deepEqual(await found("text='; DROP TABLE x"), []);
  await page.goto('/jobs');
  await page.getByLabel('Text in payload').fill('needle');
  await page.getByLabel('Status').selectOption('later');
  await page.getByRole('button', { name: 'Show' }).click();
  assert.equal(await page.locator('tbody tr').count(), 1);
  sql(`SELECT my_worker.cancel(${job}), my_worker.cancel(${other})`);
}));

test('rows of a list say by themselves what became of their jobs', as(url, async (page) => {
  const job = send('images', '{"steps": 1, "seconds": 0}', "run_at = now() + '1 h'");
  await page.goto('/jobs?queue=images');
  await page.locator(`#job-${job}-status`, { hasText: 'pending' }).waitFor();
  sql(`SELECT my_worker.run_soon(${job})`);
  await page.locator(`#job-${job}-status`, { hasText: 'completed' }).waitFor();
}));

test('a job shows each attempt with error, detail and hint; retry sends it back', as(url, async (page) => {
  const job = send('newsletter', '{"fails": true}');
  await ended(job);
  await page.goto(`/job/${job}`);
  for (const what of ['the mail server does not answer', '08006', 'mail.example.com, port 25', 'Look whether it runs.', 'PL/pgSQL function']) {
    assert.ok((await text(page)).includes(what), what);
  }
  sql("SELECT my_worker.pause_queue('newsletter')");
  await page.getByRole('button', { name: 'Retry' }).click();
  await shows(page, 'The job is back in its queue.');
  await shows(page, 'paused');
  await page.getByRole('button', { name: 'Cancel' }).click();
  await shows(page, 'The job is cancelled.');
  assert.equal(sql(`SELECT status FROM my_worker.jobs WHERE id = ${job}`), 'cancelled');
  sql("SELECT my_worker.resume_queue('newsletter')");
}));

test('a job that waits for its time says so, and runs now', as(url, async (page) => {
  const job = send('billing', '{"order": 7}', "run_at = now() + '1 h'");
  await page.goto(`/job/${job}`);
  await shows(page, 'Why it waits:');
  await page.getByRole('button', { name: 'Run now' }).click();
  await shows(page, '"billed": 7');
}));

test('progress and end of a job appear by themselves; it can be cancelled', as(url, async (page) => {
  const job = send('images', '{"steps": 6, "seconds": 1.2}');
  await page.goto(`/job/${job}`);
  const step = () => page.evaluate(() => /image \d of 6/.exec(document.body.innerText)?.[0]);
  const first = await waitFor(step, 'the first message');
  await waitFor(async () => (await step()) && (await step()) !== first, 'another message');
  await page.locator('.timeline', { hasText: 'completed' }).waitFor();
  const long = send('images', '{"steps": 100, "seconds": 0.7}');
  await page.goto(`/job/${long}`);
  await shows(page, 'of 100');
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.locator('.timeline', { hasText: 'cancelled' }).waitFor();
}));

test('a job names what it comes after and what comes after it', as(url, async (page) => {
  const first = send('exports', '{}');
  const second = sql(`SELECT my_worker.enqueue('shop.bill', '{}', after := ARRAY[${first}])`);
  await page.goto(`/job/${first}`);
  await page.getByRole('heading', { name: 'What comes after it' }).waitFor();
  await page.getByRole('link', { name: second }).click();
  await page.getByRole('heading', { name: 'Comes after' }).waitFor();
  assert.match(await text(page), /blocked/);
  sql(`SELECT my_worker.cancel(${first})`);
}));

test('a schedule runs now, pauses and resumes; its last runs are a strip', as(url, async (page) => {
  sql("SELECT my_worker.schedule('tidy up', '0 3 * * *', handler := 'shop.bill')");
  await page.goto('/schedules');
  await page.getByRole('button', { name: 'Run now' }).click();
  await shows(page, 'A run was enqueued: job');
  await waitFor(() => sql("SELECT last_status FROM my_worker.schedules WHERE name = 'tidy up'") === 'completed', 'the run ends');
  await page.reload();
  assert.equal(await page.locator('td.strip rect').count(), 1);
  await page.getByRole('button', { name: 'Pause' }).click();
  await shows(page, 'The schedule is paused.');
  assert.equal(sql("SELECT active FROM my_worker.schedules WHERE name = 'tidy up'"), 'f');
  await page.getByRole('button', { name: 'Resume' }).click();
  await shows(page, 'The schedule goes on.');
}));

test('schedules, dead letters, handlers and settings change by themselves', as(url, async (page, context) => {
  await page.goto('/schedules');
  const row = page.locator('tr', { hasText: 'watched' });
  assert.equal(await row.count(), 0);
  sql("SELECT my_worker.schedule('watched', '0 3 1 1 *', handler := 'shop.bill', queue := 'billing')");
  send('billing', '{"order": 7}');
  await row.waitFor();
  await ended(sql("SELECT my_worker.run_now('watched')"));
  await waitFor(async () => (await row.locator('td[data-label="Last fifty"] rect').count()) === 1, 'the run is a bar');
  await row.getByRole('button', { name: 'Pause' }).click();
  await shows(page, 'The schedule is paused.');
  assert.equal(new URL(page.url()).pathname, '/schedules');
  sql("SELECT my_worker.unschedule('watched')");

  const dead = await context.newPage();
  await dead.goto('/dead');
  const handlers = await context.newPage();
  await handlers.goto('/handlers');
  const settings = await context.newPage();
  await settings.goto('/settings');
  const letters = () => dead.locator('#dead tbody tr').count();
  const calls = async () => Number((await handlers.locator('tr', { hasText: 'shop.mail' }).locator('td[data-label="Failures"]').innerText().catch(() => '0')).replace(/\D/g, ''));
  const [before, failures] = [await letters(), await calls()];
  const letter = sql(`INSERT INTO my_queue (queue, payload, max_attempts) VALUES ('mail', '{"fails": true, "live": 1}', 1) RETURNING id`);
  await waitFor(async () => (await letters()) > before || (await letters()) === 10, 'the letter is there');
  await waitFor(async () => (await calls()) > failures, 'the failure is counted');
  sql("ALTER SYSTEM SET my_worker.naptime = 77");
  sql('SELECT pg_reload_conf()');
  await waitFor(async () => /77/.test(await settings.locator('#settings tr', { hasText: 'my_worker.naptime' }).innerText()), 'a setting is shown');
  sql(`ALTER SYSTEM RESET my_worker.naptime`);
  sql(`SELECT my_worker.cancel(${letter})`);
  sql('SELECT pg_reload_conf()');
}));

test('an expression is tried while it is typed', as(url, async (page) => {
  await page.goto('/schedules');
  await page.getByLabel('Expression').pressSequentially('0 3 1 1 *');
  await page.getByLabel('Time zone').pressSequentially('Europe/Berlin');
  await waitFor(async () => (await page.locator('#preview li').count()) === 5, 'five runs');
  assert.match(await page.locator('#preview').innerText(), /-01-01 /);
  await page.getByLabel('Expression').fill('61 * * * *');
  await page.locator('#preview .fault').waitFor();
}));

test('processes appear, show progress, and go', as(url, async (page) => {
  await page.goto('/processes');
  await page.getByRole('cell', { name: 'launcher' }).waitFor();
  const job = send('images', '{"steps": 4, "seconds": 1}');
  await page.getByRole('link', { name: job }).waitFor();
  await shows(page, ' of 4');
  await page.getByRole('link', { name: job }).waitFor({ state: 'detached' });
}));

test('consumers appear with what they hold', as(url, async (page) => {
  await page.goto('/consumers');
  await shows(page, 'No consumer holds');
  send('exports', '{}');
  const env = { ...process.env, PGAPPNAME: 'picker 7', PGOPTIONS: '-c client_connection_check_interval=200' };
  const consumer = spawn('psql', ['-Xq', '-c', "SELECT my_worker.receive('exports')", '-c', 'SELECT pg_sleep(60)'], { env, stdio: 'ignore' });
  await page.getByRole('cell', { name: 'picker 7' }).waitFor();
  assert.equal(await page.locator('#consumers tr').getByRole('link', { name: 'exports' }).count(), 1);
  consumer.kill();
  await page.getByRole('cell', { name: 'picker 7' }).waitFor({ state: 'detached' });
}));

test('dead letters are looked at and sent back', as(url, async (page) => {
  const job = send('mail', '{"fails": true, "letter": 17}');
  await waitFor(() => sql(`SELECT queue FROM my_worker.jobs WHERE id = ${job} AND status = 'pending' AND origin = 'mail'`) === 'lost mail', 'it goes on');
  await page.goto('/dead');
  assert.match(await text(page), /the mail server does not answer/);
  sql("SELECT my_worker.pause_queue('mail')");
  await page.getByRole('button', { name: 'Send back the next 100' }).click();
  await shows(page, '1 jobs were sent back.');
  assert.equal(sql(`SELECT queue FROM my_worker.jobs WHERE id = ${job}`), 'mail');
  sql(`SELECT my_worker.cancel(${job}), my_worker.resume_queue('mail')`);
}));

test('a dead letter is seen behind however many newer jobs', as(url, async (page) => {
  const job = send('mail', '{"fails": true, "letter": 18}');
  await waitFor(() => sql(`SELECT queue FROM my_worker.jobs WHERE id = ${job} AND status = 'pending' AND origin = 'mail'`) === 'lost mail', 'it goes on');
  sql("INSERT INTO my_queue (queue, payload, run_at) SELECT 'exports', '{\"newer\": 1}', now() + '1 day' FROM generate_series(1, 150000)");
  await page.goto('/dead');
  await page.locator('#dead').getByRole('link', { name: job, exact: true }).waitFor({ timeout: 5000 });
  sql("DELETE FROM my_queue WHERE queue = 'exports' AND payload ? 'newer'");
  sql(`SELECT my_worker.cancel(${job})`);
}));

test('handlers and settings are listed', as(url, async (page) => {
  await page.goto('/handlers');
  await page.getByRole('rowheader', { name: /shop.bill/ }).waitFor();
  await page.goto('/settings');
  await page.getByRole('rowheader', { name: 'my_worker.max_workers', exact: true }).waitFor();
}));

test('whatever a payload, an error, a name says is text', as(url, async (page) => {
  const quoted = EVIL.replaceAll("'", "''");
  sql(`SELECT my_worker.create_queue('<img src=x onerror=pwned()>')`);
  sql(`CREATE FUNCTION shop.evil(job jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    PERFORM my_worker.progress(50, job->>'text');
    IF job ? 'fails' THEN RAISE EXCEPTION '%', job->>'text' USING DETAIL = job->>'text', HINT = job->>'text'; END IF;
    PERFORM pg_sleep((job->>'seconds')::float8);
    RETURN job->>'text';
  END $$`);
  const bad = sql(`SELECT my_worker.enqueue('shop.evil', jsonb_build_object('text', '${quoted}', 'fails', 1), queue := '<img src=x onerror=pwned()>', max_attempts := 1, unique_key := '${quoted}')`);
  await ended(bad);
  sql(`SELECT my_worker.schedule('<script>window.pwned=1</script>', '@daily', command := 'SELECT ''${quoted.replaceAll("'", "''")}''')`);
  const runs = sql(`SELECT my_worker.enqueue('shop.evil', jsonb_build_object('text', '${quoted}', 'seconds', 60))`);
  await page.goto(`/job/${runs}`);
  await shows(page, EVIL);
  await page.goto('/processes');
  await shows(page, '<script>window.pwned = 1</script>');
  for (const path of [...PAGES, `/job/${bad}`, '/queue?name=%3Cimg%20src%3Dx%20onerror%3Dpwned()%3E', `/jobs?text=${encodeURIComponent(EVIL)}`]) {
    await page.goto(path);
    assert.equal(await page.evaluate(() => window.pwned), undefined, path);
    assert.equal(await page.locator('main img, main script').count(), 0, path);
  }
  await page.goto(`/job/${bad}`);
  assert.ok((await text(page)).includes(EVIL));
  sql(`SELECT my_worker.cancel(${runs}), my_worker.unschedule('<script>window.pwned=1</script>')`);
}));

test('read only: no button, and a form of somebody else is refused', async () => {
  await as(() => readOnly.url, async (page, context) => {
    const job = send('billing', '{}', "run_at = now() + '1 h'");
    for (const path of [...PAGES, `/job/${job}`]) {
      await page.goto(path);
      assert.equal(await page.locator('form.do').count(), 0, path);
    }
    const token = /name="token" value="(\w+)"/.exec(await (await context.request.get(`${main.url}/`)).text())[1];
    const answer = await context.request.post('/do/cancel', { form: { token, id: job } });
    assert.equal(answer.status(), 403);
    assert.equal(sql(`SELECT status FROM my_worker.jobs WHERE id = ${job}`), 'pending');
    sql(`SELECT my_worker.cancel(${job})`);
  })();
});

test('requests by another name, from another site or without a token are refused', async () => {
  const host = new URL(main.url).host;
  const curl = (...args) => execFileSync('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', ...args], { encoding: 'utf8' });
  assert.equal(curl(`${main.url}/`), '200');
  assert.equal(curl('-H', 'Host: evil.example', `${main.url}/`), '403');
  assert.equal(curl('-d', 'id=1', `${main.url}/do/cancel`), '422');
  assert.equal(curl('-d', 'id=1&token=x', `${main.url}/do/cancel`), '403');
  assert.equal(curl('-d', 'id=1&token=x', '-H', 'Origin: http://evil.example', `${main.url}/do/cancel`), '403');
  assert.equal(curl('-d', 'id=1&token=x', '-H', `Origin: http://${host}`, '-H', 'Sec-Fetch-Site: cross-site', `${main.url}/do/cancel`), '403');
  const headers = (await fetch(`${main.url}/`)).headers;
  assert.match(headers.get('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'/);
  assert.equal(headers.get('cache-control'), 'no-store');
});

test('without a script pages and buttons work', as(url, async (page) => {
  await page.goto('/');
  await cell(page, 'exports', '').getByRole('button', { name: 'Pause' }).click();
  assert.match(await text(page), /The queue is paused/);
  await cell(page, 'exports', '').getByRole('button', { name: 'Resume' }).click();
  assert.match(await text(page), /The queue goes on/);
  await page.goto('/jobs?queue=exports');
  await page.getByText('Go on below id').click();
  assert.ok((await page.locator('tbody tr').count()) > 0);
}, { javaScriptEnabled: false }));

test('two roles see and do nothing of each other', async () => {
  const anns = sql(`INSERT INTO my_queue (queue, payload, run_at) VALUES ('billing', '{"secret": "of ann"}', now() + '1 h') RETURNING id`, 'ann');
  const bobs = sql(`INSERT INTO my_queue (queue, payload, unique_key, run_at) VALUES ('billing', '{"secret": "of bob"}', 'key of bob', now() + '1 h') RETURNING id`, 'bob');
  sql("SELECT my_worker.schedule('plan of bob', '@daily', handler := 'shop.bill')", 'bob');
  const works = sql(`SELECT my_worker.enqueue('shop.index_images', '{"steps": 300, "seconds": 2, "secret": "of bob"}', queue := 'default')`, 'bob');
  await as(() => asking.url, async (page, context) => {
    await logIn(page, 'ann');
    assert.match(await text(page), /ann@/);
    for (const path of [...PAGES, `/job/${bobs}`, `/job/${works}`, '/jobs?text=secret', '/jobs?owner=bob']) {
      await page.goto(path);
      await page.waitForTimeout(100);
      assert.doesNotMatch(await page.content(), new RegExp(`of bob|image \\d+ of 300|/job/(${bobs}|${works})"`), path);
    }
    await page.goto('/jobs?text=secret');
    assert.deepEqual(await page.locator('tbody tr td:first-child').allInnerTexts(), [anns]);
    // Her own token, his job.
    await page.goto(`/job/${anns}`);
    const token = await page.locator('input[name=token]').first().inputValue();
    for (const [what, form] of [['cancel', { id: bobs }], ['run_soon', { id: bobs }], ['pause_schedule', { name: 'plan of bob', owner: 'bob' }], ['pause_queue', { name: 'billing' }]]) {
      const answer = await context.request.post(`/do/${what}`, { form: { token, back: '/', ...form } });
      assert.match(await answer.text(), /class="said bad"/, what);
    }
    // His job's events tell her nothing.
    const heard = await page.evaluate((id) => new Promise((resolve) => {
      let all = '';
      const stream = new EventSource(`/live?page=job&id=${id}`);
      const end = () => { stream.close(); resolve(all); };
      stream.onmessage = (event) => { all += event.data; setTimeout(end, 2500); };
      setTimeout(end, 20_000);
    }), works);
    assert.match(heard, /health/);
    assert.doesNotMatch(heard, /of bob|image/);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('heading', { name: 'my_worker' }).waitFor();
    assert.equal((await context.request.get('/jobs', { maxRedirects: 0 })).status(), 303);
  })();
  assert.equal(sql(`SELECT status FROM my_worker.jobs WHERE id = ${bobs}`), 'pending');
  assert.equal(sql("SELECT active FROM my_worker.schedules WHERE name = 'plan of bob'"), 't');
  await as(() => asking.url, async (page) => {
    await logIn(page, 'bob');
    await page.goto(`/job/${works}`);
    await shows(page, ' of 300');
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.locator('.timeline', { hasText: 'cancelled' }).waitFor();
    assert.equal(await page.goto(`/job/${anns}`).then(() => page.getByText('There is no such job').count()), 1);
  })();
  sql(`SELECT my_worker.cancel(${anns}), my_worker.cancel(${bobs}), my_worker.unschedule('plan of bob', 'bob')`);
});

test('a wrong password, a role without one and no session are refused', as(() => asking.url, async (page, context) => {
  await logIn(page, 'ann', 'wrong');
  assert.match(await text(page), /password authentication failed/);
  await logIn(page, 'trusted', 'anything');
  assert.match(await text(page), /asks this role for no password/);
  assert.deepEqual(await context.cookies(), []);
  await page.goto('/job/1');
  assert.match(page.url(), /\/login\?next=%2Fjob%2F1$/);
  assert.equal((await context.request.get('/live?page=overview')).status(), 401);
  await logIn(page, 'bob');
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict']);
}, { expects: [/403/] }));

test('a reader of statistics sees numbers and no jobs', as(() => asking.url, async (page) => {
  await logIn(page, 'watcher', 'watch');
  await waitFor(async () => (await cell(page, 'billing', 'Waiting').innerText()) !== '–', 'it is counted');
  assert.equal(await page.locator('form.do').count(), 0);
  await page.goto('/jobs');
  assert.match(await text(page), /Not for this role/);
  await page.goto('/processes');
  await page.getByRole('cell', { name: 'launcher' }).waitFor();
}));

test('no statement while nobody looks', as(url, async (page) => {
  await page.goto('/');
  const asked = () => sql("SELECT max(query_start) FROM pg_stat_activity WHERE application_name = 'my_worker_web' AND usename = 'postgres'");
  const first = asked();
  await waitFor(() => asked() > first, 'an open page asks');
  await page.close();
  // The last look may be on its way.
  await sleep(1500);
  const last = asked();
  await sleep(3000);
  assert.equal(asked(), last);
}));

test('the server goes, and comes back', as(url, async (page) => {
  await page.goto('/');
  await page.locator('a.health').waitFor();
  server('-m', 'fast', 'stop');
  try {
    await page.locator('#lost', { hasText: /^The server does not answer: .*[^.]\. What you see is from before\.$/ }).waitFor();
    await page.screenshot({ path: `${SHOTS}/lost.png` });
    await page.goto('/jobs');
    await page.getByRole('heading', { name: 'The server does not answer' }).waitFor();
  } finally {
    server('start');
  }
  await page.getByRole('heading', { name: 'Jobs' }).waitFor();
}, { expects: [/503/] }));

test('the dashboard goes, and comes back', async () => {
  const one = await dashboard();
  await as(() => one.url, async (page) => {
    await page.goto('/');
    await page.locator('a.health').waitFor();
    one.child.kill();
    await page.locator('#lost', { hasText: 'The dashboard does not answer' }).waitFor();
    await dashboard('--listen', new URL(one.url).host);
    await page.locator('#lost').waitFor({ state: 'hidden' });
  }, { expects: [/ERR_|Failed to load/] })();
});

test('the keyboard reaches all, and keys lead everywhere', as(url, async (page) => {
  for (const path of PAGES) {
    await page.goto(path);
    const all = await page.locator('a:visible:not([tabindex="-1"]), button:visible, input:visible, select:visible, summary:visible').count();
    const reached = new Set();
    for (let i = 0; i < all + 5; i += 1) {
      await page.keyboard.press('Tab');
      const at = await page.evaluate(() => {
        const element = document.activeElement;
        const style = getComputedStyle(element);
        const list = Array.from(document.querySelectorAll('a, button, input, select, summary, [tabindex]'));
        return element === document.body ? null : { place: list.indexOf(element), ring: style.outlineStyle !== 'none' };
      });
      if (at) { reached.add(at.place); assert.ok(at.ring, `${path}: focus is not to be seen`); }
    }
    assert.ok(reached.size >= all, `${path}: ${reached.size} of ${all} reached`);
  }
  await page.keyboard.press('g');
  await page.keyboard.press('j');
  await page.getByRole('heading', { name: 'Jobs', exact: true }).waitFor();
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.name), 'queue');
  await page.keyboard.press('Escape');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.waitForURL(/\/job\/\d+$/);
  await page.keyboard.press('?');
  await page.locator('dialog[open]').waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.press('t');
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
}));

test('each page is legible in dark and light, from 360 px to 4K', async () => {
  for (let i = 0; i < 3; i += 1) send('images', '{"steps": 200, "seconds": 0.4}');
  const failed = send('newsletter', '{"fails": true, "to": "ada@example.com", "subject": "News of the week"}');
  sql("INSERT INTO my_queue (queue, payload, run_at) SELECT 'billing', jsonb_build_object('order', n), now() + '1 h' FROM generate_series(1, 40) AS n");
  sql("SELECT my_worker.pause_queue('reports')");
  await ended(failed);
  for (const [width, height, colorScheme] of [[1400, 900, 'light'], [1400, 900, 'dark'], [360, 780, 'light'], [360, 780, 'dark'], [3840, 2160, 'dark']]) {
    const { page, context, faults } = await viewer(main.url, { viewport: { width, height }, colorScheme });
    for (const path of [...PAGES, `/job/${failed}`]) {
      await page.goto(path);
      await page.locator('time').first().or(page.locator('h1')).first().waitFor();
      const name = path.replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-|-$/g, '') || 'overview';
      await page.screenshot({ path: `${SHOTS}/${name}-${width}-${colorScheme}.png`, fullPage: width < 3000 });
      assert.deepEqual(await faintTexts(page), [], `${path} ${colorScheme}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${path} is ${wide} wide on ${width}`);
    }
    assert.deepEqual(faults, []);
    await context.close();
  }
  sql("SELECT my_worker.cancel(id) FROM my_worker.jobs WHERE queue IN ('images', 'billing') AND status IN ('pending', 'processing')");
});

// Last, since the server is started anew with an address.
test('TLS to the server, as sslmode and sslrootcert say', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'tls'));
  const file = (name) => join(dir, name);
  const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  for (const ca of ['ca', 'other']) openssl('req', '-x509', ...key, '-keyout', `${ca}.key`, '-out', `${ca}.crt`, '-subj', `/CN=${ca}`, '-days', '2');
  const signed = (name, subject, extension) => {
    writeFileSync(file(`${name}.ext`), extension);
    openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${subject}`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-out', `${name}.crt`, '-days', '2', '-extfile', `${name}.ext`);
    chmodSync(file(`${name}.key`), 0o600);
  };
  signed('server', 'whoever', 'subjectAltName = DNS:db.example.com');
  signed('ann', 'ann', 'extendedKeyUsage = clientAuth');

  // An address of the loopback network that nobody else is likely to have.
  const address = `127.${process.pid % 200 + 20}.${Math.floor(process.pid / 200) % 250}.77`;
  const hba = `${process.env.PGDATA}/pg_hba.conf`;
  writeFileSync(hba, `hostssl all ann all cert\nhostssl all bob all scram-sha-256\nhostssl all postgres all trust\nhost all all all reject\n${readFileSync(hba, 'utf8')}`);
  for (const [name, value] of [['listen_addresses', address], ['ssl', 'on'], ['ssl_cert_file', file('server.crt')], ['ssl_key_file', file('server.key')], ['ssl_ca_file', file('ca.crt')]]) {
    sql(`ALTER SYSTEM SET ${name} = '${value}'`);
  }
  server('-m', 'fast', 'restart');

  // What the page says, and whether and how the connection behind it is encrypted.
  const asks = async (options, env = {}) => {
    for (const [name, value] of Object.entries(env)) process.env[name] = value;
    const one = await dashboard(`hostaddr=${address} port=${process.env.PGPORT} dbname=${process.env.PGDATABASE} ${options}`).finally(() => {
      for (const name of Object.keys(env)) delete process.env[name];
    });
    try {
      const answer = await fetch(one.url);
      const page = (await answer.text()).replace(/&#?\w+;/g, "'");
      const ssl = sql("SELECT string_agg(DISTINCT concat_ws(' ', a.usename, s.ssl, s.version), ', ') FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a USING (pid) WHERE a.application_name = 'my_worker_web' AND a.client_addr IS NOT NULL");
      return { status: answer.status, page, ssl };
    } finally {
      one.child.kill();
      await waitFor(() => sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my_worker_web' AND client_addr IS NOT NULL") === '0', 'it is gone');
    }
  };
  const good = async (options, env, ssl = 'postgres t TLSv1.3') => {
    const { status, ssl: found, page } = await asks(options, env);
    assert.equal(found, ssl, `${options}: ${/<h1.*?<\/main>/s.exec(page)?.[0]}`);
    assert.equal(status, 200, options);
  };
  const bad = async (options, env, why) => {
    const { page, ssl } = await asks(options, env);
    assert.equal(ssl, '', options);
    assert.match(page, why, options);
  };
  const here = 'user=postgres host=db.example.com';
  const ca = `sslrootcert=${file('ca.crt')}`;
  await good(here, {});
  await good(`${here} sslmode=require`, {});
  await good(`${here} sslmode=verify-full ${ca}`, {});
  await good(`sslmode=verify-full host=db.example.com user=postgres`, { PGSSLROOTCERT: file('ca.crt') });
  await good(`${here} sslmode=verify-full sslrootcert='${file('server.crt')}'`, {});
  await good(here, { PGSSLMODE: 'verify-full', PGSSLROOTCERT: file('ca.crt') });
  await good(`user=postgres host=elsewhere.example.com sslmode=verify-ca ${ca}`, {});
  await bad(`user=postgres host=elsewhere.example.com sslmode=verify-full ${ca}`, {}, /not valid for (any )?name/);
  await bad(`${here} sslmode=verify-full sslrootcert=system`, { SSL_CERT_FILE: file('other.crt') }, /invalid peer certificate/);
  await bad(`${here} sslmode=verify-ca sslrootcert=${file('other.crt')}`, {}, /invalid peer certificate/);
  await bad(`${here} sslmode=require sslrootcert=${file('other.crt')}`, {}, /invalid peer certificate/);
  await bad(`${here} sslmode=disable`, {}, /pg_hba.conf rejects connection/);
  await good(`user=ann host=db.example.com sslmode=verify-full ${ca} sslcert=${file('ann.crt')} sslkey=${file('ann.key')}`, {}, 'ann t TLSv1.3');
  await bad(`user=ann host=db.example.com sslmode=require`, {}, /certificate/);
  // The password is bound to the channel.
  await good(`user=bob host=db.example.com sslmode=verify-full ${ca} channel_binding=require`, { PGPASSWORD: "bob's word" }, 'bob t TLSv1.3');

  // It does not start with less than was asked for.
  const told = (...args) => new Promise((resolve) => {
    const child = spawn(process.env.MY_WORKER_WEB, ['--listen', '127.0.0.1:0', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let err = '';
    child.stderr.on('data', (data) => { err += data; });
    child.on('close', (code) => resolve(`${code} ${err}`));
  });
  assert.match(await told(`${here} sslmode=verify-full sslrootcert=/no/such/file`), /^1 .*\/no\/such\/file/);
  assert.match(await told(`${here} sslmode=strict`), /^1 .*there is no sslmode strict/);
  chmodSync(file('ann.key'), 0o644);
  assert.match(await told(`${here} sslcert=${file('ann.crt')} sslkey=${file('ann.key')}`), /^1 .*open to others/);
});
