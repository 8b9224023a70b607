// The client against a real server: the one that PGHOST and the like name. It may be restarted.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { Fail, LeaseLost, Release, RetryIn, Worker, enqueue, send, sendMany } from '../index.js';

const quiet = { info() {}, warn() {}, error() {} };
const folder = mkdtempSync(join(tmpdir(), 'my-worker-'));
let client;
let queue;
let number = 0;
const children = [];

async function open() {
  client = new pg.Client();
  client.on('error', () => {});
  await client.connect();
}

const sql = async (text, ...values) => (await client.query(text, values)).rows;
const row = async (job) => (await sql('SELECT * FROM my_worker.jobs WHERE id = $1', job))[0];

async function ended(jobs, status = 'completed') {
  for (const job of [jobs].flat()) {
    const [told] = await sql("SELECT my_worker.wait($1, '30 s') AS status", job);
    assert.equal(told.status, status);
  }
  return row([jobs].flat().at(-1));
}

async function waitFor(fact, what) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const value = await fact();
    if (value) return value;
    assert.ok(Date.now() < deadline, `waited in vain: ${what}`);
    await sleep(20);
  }
}

// The worker while `block` runs; stopped at its end.
async function serving(options, register, block) {
  const worker = new Worker({ queues: queue, grace: 5_000, signals: false, log: quiet, ...options });
  register(worker);
  const run = worker.run();
  run.catch(() => {});
  try {
    await Promise.race([block(worker), run.then(() => new Promise(() => {}))]);
  } finally {
    worker.stop();
    await run;
  }
}

before(async () => {
  await open();
  await sql('SET client_min_messages = warning');
  await sql('CREATE EXTENSION IF NOT EXISTS my_worker');
  await sql('CREATE TABLE IF NOT EXISTS effects (job bigint, what text UNIQUE)');
});

beforeEach(async () => {
  queue = `node_${process.pid}_${++number}`;
  await sql("SELECT my_worker.create_queue($1, backoff => '50 ms', backoff_max => '50 ms')", queue);
});

afterEach(() => children.splice(0).forEach((child) => child.kill('SIGKILL')));
after(async () => {
  await client.end();
  rmSync(folder, { recursive: true });
});

test('each kind has its handler and the rest the default', async () => {
  const jobs = [];
  for (const kind of ['a', 'b', 'c', undefined]) jobs.push(await send(client, queue, { of: kind ?? 'none' }, { kind }));
  await serving({}, (worker) => {
    worker.handle(['a', 'b'], (job) => ['named', job.kind, job.payload.of]);
    worker.handle((job) => ['rest', job.kind, job.payload.of]);
  }, async () => {
    await ended(jobs);
    const results = (await Promise.all(jobs.map(row))).map((job) => job.result);
    assert.deepEqual(results, [['named', 'a', 'a'], ['named', 'b', 'b'], ['rest', 'c', 'c'], ['rest', null, 'none']]);
  });
});

test('without a default other kinds are left to others', async () => {
  const other = await send(client, queue, {}, { kind: 'other' });
  const mine = await send(client, queue, {}, { kind: 'mine' });
  await serving({}, (worker) => worker.handle('mine', () => {}), () => ended(mine));
  const { status, attempts } = await row(other);
  assert.deepEqual([status, attempts], ['pending', 0]);
});

test('a handler sees all of its job, ids as strings', async () => {
  const runAt = new Date(Date.now() - 3_600_000);
  const options = { kind: 'k', headers: { trace: 't' }, priority: 7, runAt, maxAttempts: 3, groupKey: 'g' };
  const id = await send(client, queue, { ä: [1.5, null] }, options);
  let seen;
  await serving({}, (worker) => worker.handle((job) => { seen = job; }), () => ended(id));
  const { lease, signal, progress, createdAt, owner, ...rest } = seen;
  assert.deepEqual(rest, { id, queue, attempt: 1, payload: { ä: [1.5, null] }, ...options });
  assert.equal(typeof id, 'string');
  assert.match(lease, /^-?\d+$/);
  assert.ok(createdAt instanceof Date && !signal.aborted && owner.length > 0 && progress);
});

async function checkSoManyAtOnce(queues) {
  let running = 0;
  let most = 0;
  const jobs = [];
  for (const name of queues) jobs.push(...await sendMany(client, name, Array(12 / queues.length).fill({})));
  await serving({ queues, concurrency: 3, prefetch: 1 }, (worker) => worker.handle(async () => {
    most = Math.max(most, ++running);
    await sleep(100);
    running--;
  }), () => ended(jobs));
  assert.equal(most, 3);
  for (const job of jobs) assert.equal((await row(job)).errors, null);
}

test('so many run at once', () => checkSoManyAtOnce([queue]));

test('so many run at once of two queues together', async () => {
  await sql('SELECT my_worker.create_queue($1)', `${queue}_other`);
  await checkSoManyAtOnce([queue, `${queue}_other`]);
});

test('effect and end are one transaction', async () => {
  const id = await send(client, queue);
  await serving({}, (worker) => worker.handle({ transaction: true }, async (job, db) => {
    await db.query('INSERT INTO effects VALUES ($1, $2)', [job.id, `booked ${job.id}/${job.attempt}`]);
    if (job.attempt === 1) throw new Error('not yet');
    return { booked: true };
  }), async () => {
    const { result, errors } = await ended(id);
    assert.deepEqual([result, errors.length, errors[0].message], [{ booked: true }, 1, 'Error: not yet']);
  });
  assert.deepEqual(await sql('SELECT what FROM effects WHERE job = $1', id), [{ what: `booked ${id}/2` }]);
});

for (const lease of [null, 60_000]) {
  test(`a lost lease rolls back, ${lease ? 'timed' : 'of the session'}`, async () => {
    const id = await send(client, queue);
    let started;
    let mayEnd;
    const hasStarted = new Promise((resolve) => { started = resolve; });
    const end = new Promise((resolve) => { mayEnd = resolve; });
    await serving({ lease }, (worker) => worker.handle({ transaction: true }, async (job, db) => {
      await db.query('INSERT INTO effects VALUES ($1, $2)', [job.id, `lost ${job.id}`]);
      started();
      await end;
    }), async () => {
      await hasStarted;
      await sql('SELECT my_worker.cancel($1)', id);
      mayEnd();
      await ended(id, 'cancelled');
    });
    assert.deepEqual(await sql('SELECT what FROM effects WHERE job = $1', id), []);
  });
}

test('what the handler throws says how it ends', async () => {
  const kinds = { error: {}, fail: {}, retry: {}, release: {}, json: { maxAttempts: 1 }, odd: { maxAttempts: 1 } };
  const jobs = {};
  for (const [kind, more] of Object.entries(kinds)) jobs[kind] = await send(client, queue, {}, { kind, ...more });
  let released = false;
  await serving({}, (worker) => worker
    .handle('error', ({ attempt }) => { if (attempt < 3) throw new RangeError(`no ${attempt}\0`); return attempt; })
    .handle('fail', async () => { throw new Fail('no such address'); })
    .handle('retry', async ({ attempt }) => { if (attempt === 1) throw new RetryIn(500, 'busy'); })
    .handle('release', ({ attempt }) => { if (!released) { released = true; throw new Release(300); } return attempt; })
    .handle('json', () => 1n)
    .handle('odd', () => Promise.reject(undefined)), async () => {
    const error = await ended(jobs.error);
    assert.deepEqual([error.result, error.errors.map(({ message }) => message)], [3, ['RangeError: no 1', 'RangeError: no 2']]);
    const fail = await ended(jobs.fail, 'failed');
    assert.deepEqual([fail.attempts, fail.errors[0].message], [1, 'no such address']);
    const retry = await ended(jobs.retry);
    assert.deepEqual([retry.attempts, retry.errors[0].message], [2, 'busy']);
    assert.ok(retry.started_at - retry.created_at >= 500);
    const release = await ended(jobs.release);
    assert.deepEqual([release.result, release.errors], [1, null]);
    assert.match((await ended(jobs.json, 'failed')).errors[0].message, /TypeError/);
    await ended(jobs.odd, 'failed');
  });
});

test('an error of the database is told without the row', async () => {
  const id = await send(client, queue, { secret: 'hush' }, { maxAttempts: 1 });
  await serving({}, (worker) => worker.handle({ transaction: true }, async (job, db) => {
    for (let n = 0; n < 2; n++) await db.query('INSERT INTO effects VALUES (0, $1)', [job.payload.secret]);
  }), async () => {
    const { errors } = await ended(id, 'failed');
    assert.match(errors[0].message, /\(23505\): duplicate key/);
    assert.ok(!JSON.stringify(errors).includes('hush'));
  });
});

test('a result that the server refuses fails its job alone', async () => {
  const jobs = [];
  for (const text of ['a', '\\0', 'b']) jobs.push(await send(client, queue, { text }, { maxAttempts: 1 }));
  await serving({}, (worker) => worker.handle(({ payload }) => payload.text.replace('\\0', '\0')), async () => {
    await ended([jobs[0], jobs[2]]);
    await ended(jobs[1], 'failed');
  });
});

test('many jobs with and without results', async () => {
  const jobs = await sendMany(client, queue, [...Array(500).keys()]);
  await serving({ concurrency: 20, prefetch: 50 }, (worker) => worker
    .handle(async ({ payload }) => (payload % 2 ? payload : undefined)), () => ended(jobs));
  const rows = await sql('SELECT id, result FROM my_worker.history WHERE queue = $1 ORDER BY id', queue);
  assert.deepEqual(rows, jobs.map((id, n) => ({ id, result: n % 2 ? n : null })));
});

test('progress is seen while the job runs, and the consumer', async () => {
  const id = await send(client, queue);
  let mayEnd;
  const end = new Promise((resolve) => { mayEnd = resolve; });
  await serving({ name: 'post office' }, (worker) => worker.handle(async (job) => {
    assert.equal(await job.progress(40, 'four of ten'), true);
    await end;
  }), async () => {
    const seen = await waitFor(async () => { const job = await row(id); return job.progress === 40 && job; }, 'it is seen');
    const { status, progress, progress_message: message, consumer } = seen;
    assert.deepEqual([status, progress, message, consumer], ['processing', 40, 'four of ten', 'post office']);
    mayEnd();
    await ended(id);
  });
});

test('an idle worker stops at once', async () => {
  let begin;
  await serving({}, (worker) => worker.handle(() => {}), async () => {
    await ended(await send(client, queue));
    begin = Date.now();
  });
  assert.ok(Date.now() - begin < 3_000);
});

test('a timed lease is extended while the job runs', async () => {
  const id = await send(client, queue);
  await serving({ lease: 1_000 }, (worker) => worker.handle(() => sleep(2_500)), async () => {
    assert.equal((await ended(id)).errors, null);
  });
});

test('a cancelled job is told to stop', async () => {
  const id = await send(client, queue);
  let reason;
  await serving({ lease: 1_000 }, (worker) => worker.handle(async ({ signal }) => {
    await sleep(20_000, null, { signal }).catch(() => { reason = signal.reason; });
  }), async () => {
    await waitFor(async () => (await row(id)).status === 'processing', 'it runs');
    await sql('SELECT my_worker.cancel($1)', id);
    await waitFor(() => reason, 'it is told');
  });
  assert.ok(reason instanceof LeaseLost);
});

test('a worker outlives its connections', async () => {
  const kill = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'doomed' AND backend_type = 'client backend'`;
  await serving({ lease: 5_000, name: 'doomed' }, (worker) => worker
    .handle({ transaction: true }, (job, db) => db.query('SELECT 1').then(() => null)), async () => {
    for (let n = 0; n < 3; n++) {
      await ended(await send(client, queue));
      await sql(kill);
    }
    await ended(await send(client, queue));
  });
});

test('a transaction whose connection is lost between two statements is done anew', async () => {
  let runs = 0;
  const id = await send(client, queue);
  await serving({ lease: 5_000 }, (worker) => worker.handle({ transaction: true }, async (job, db) => {
    if (++runs > 1) return;
    const lost = new Promise((resolve) => { db.once('end', resolve); });
    await sql('SELECT pg_terminate_backend($1)', db.processID);
    await lost;
  }), () => waitFor(async () => (await row(id)).status === 'completed', 'it is done'));
  assert.equal(runs, 2);
});

test('a wrong queue or address is said at once', async () => {
  for (const options of [{ queues: 'nosuch' }, { queues: [queue, 'nosuch'] }, { connection: { host: '/nowhere' } }]) {
    await assert.rejects(new Worker({ log: quiet, signals: false, ...options }).handle(() => {}).run());
  }
  await assert.rejects(new Worker().run(), /no handler/);
});

test('sending is part of the caller\'s transaction', async () => {
  const waiting = async () => Number((await sql('SELECT count(*) FROM my_queue WHERE queue = $1', queue))[0].count);
  await sql('BEGIN');
  await send(client, queue, { n: 1 });
  await sendMany(client, queue, [1, null]);
  await sql('ROLLBACK');
  assert.equal(await waiting(), 0);
  const first = await send(client, queue, {}, { uniqueKey: 'k' });
  assert.equal(await send(client, queue, {}, { uniqueKey: 'k' }), first);
  assert.equal((await sendMany(client, queue, ['x', null], { kind: 'x', timeout: 60_000 })).length, 2);
  assert.equal(await waiting(), 3);
  await assert.rejects(send(client, queue, {}, { prioriti: 1 }), /no parameter "prioriti"/);
  await sql('CREATE OR REPLACE FUNCTION double(n jsonb) RETURNS int LANGUAGE sql RETURN 2 * n::int');
  assert.equal((await ended(await enqueue(client, 'double', 21, { priority: -1 }))).result, 42);
});

// ---- a worker as a process ----

function child(file, ...given) {
  const program = fileURLToPath(new URL('child.js', import.meta.url));
  const one = spawn(process.execPath, [program, queue, file, ...given.map(String)], { stdio: 'ignore' });
  children.push(one);
  return one;
}

function newFile() {
  const file = join(folder, queue);
  writeFileSync(file, '');
  return file;
}

const noted = (file, word) => readFileSync(file, 'utf8').split('\n')
  .filter((line) => line.startsWith(`${word} `)).map((line) => line.split(' ')[1]);

for (const lease of [[], [2_000]]) {
  test(`kill -9 loses none and repeats at most the one at hand${lease.length ? ', timed' : ''}`, async () => {
    const file = newFile();
    const jobs = await sendMany(client, queue, Array(12).fill({}));
    const first = child(file, 100, 1, 5_000, ...lease);
    await waitFor(() => noted(file, 'begin').length >= 4, 'some jobs have begun');
    first.kill('SIGKILL');
    await once(first, 'exit');
    const begun = noted(file, 'begin');
    assert.ok(begun.length < 12);
    child(file, 50, 1, 5_000, ...lease);
    await ended(jobs);
    const again = jobs.filter((id) => noted(file, 'begin').filter((one) => one === id).length > 1);
    assert.deepEqual(new Set(noted(file, 'end')), new Set(jobs));
    assert.ok(again.every((id) => id === begun.at(-1)), 'at most the one in its hands is repeated');
    const rows = await Promise.all(jobs.map(row));
    assert.deepEqual(rows.filter(({ errors }) => errors).map(({ id }) => id), again);
  });
}

test('SIGTERM lets what runs end and leaves the rest', async () => {
  const file = newFile();
  const jobs = await sendMany(client, queue, Array(5).fill({}));
  const one = child(file, 700, 2, 20_000);
  await waitFor(() => noted(file, 'begin').length === 2, 'two jobs have begun');
  one.kill('SIGTERM');
  assert.deepEqual(await once(one, 'exit'), [0, null]);
  assert.deepEqual(noted(file, 'end').sort(), jobs.slice(0, 2).sort());
  const rows = await Promise.all(jobs.map(row));
  assert.deepEqual(rows.map(({ status }) => status), [...Array(2).fill('completed'), ...Array(3).fill('pending')]);
  assert.ok(rows.every(({ errors }) => errors === null));
});

for (const lease of [[], [30_000]]) {
  test(`after the grace what runs is released uncharged${lease.length ? ', timed' : ''}`, async () => {
    const file = newFile();
    const id = await send(client, queue);
    const one = child(file, 60_000, 2, 300, ...lease);
    await waitFor(() => noted(file, 'begin').length === 1, 'it has begun');
    one.kill('SIGINT');
    assert.deepEqual(await once(one, 'exit'), [0, null]);
    const { status, attempts, errors } = await row(id);
    assert.deepEqual([status, attempts, errors], ['pending', 0, null]);
  });
}

for (const [mode, ...lease] of [['fast'], ['immediate', 2_000]]) {
  test(`a server that stops ${mode} and starts again loses none`, async () => {
    const file = newFile();
    const jobs = await sendMany(client, queue, Array(12).fill({}));
    child(file, 100, 2, 5_000, ...lease);
    await waitFor(() => noted(file, 'end').length >= 3, 'some jobs have ended');
    await client.end();
    const { PGDATA, PGLOG } = process.env;
    execFileSync('pg_ctl', ['-s', '-w', '-D', PGDATA, '-l', PGLOG, '-m', mode, 'restart'], { stdio: 'ignore' });
    await open();
    await ended(jobs);
    assert.deepEqual(new Set(noted(file, 'end')), new Set(jobs));
  });
}
