// The worker: takes jobs from queues, runs their handlers, and ends the jobs.
//
// Its connections, all opened when first needed and anew after a loss:
//
// - one for each queue, which waits in `receive` and, where leases are the session's, holds them;
// - one that acknowledges, extends and reports, for all jobs;
// - one for each transactional handler that runs, in a pool.
//
// A job's end is always said with its lease, so from any connection, and a lost lease changes
// nothing. Ids and leases are bigint in the server and strings here: no digit is ever lost.

import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { interval } from './send.js';

export { enqueue, send, sendMany } from './send.js';

const RECEIVE = `
SELECT id::text, lease::text, kind, payload, headers, attempt, max_attempts AS "maxAttempts", priority,
       run_at AS "runAt", created_at AS "createdAt", owner::text, group_key AS "groupKey"
  FROM my_worker.receive(queue => $1::text, n => $2::integer, wait => $3::interval,
                         lease => $4::interval, kinds => $5::text[])`;
const ACK = 'SELECT my_worker.ack($1::bigint, $2::bigint, $3::jsonb) AS held';
const ACK_PLAIN = 'SELECT unnest(my_worker.ack_many($1::bigint[], $2::bigint[]))::text AS id';
const ACK_RESULTS = `
SELECT t.id::text FROM unnest($1::bigint[], $2::bigint[], $3::jsonb[]) AS t(id, lease, result)
 WHERE my_worker.ack(t.id, t.lease, t.result)`;
const NACK = `
SELECT my_worker.nack($1::bigint, $2::bigint, error => $3::text, delay => $4::interval,
                      fail => $5::boolean) AS held`;
const RELEASE = 'SELECT my_worker.release($1::bigint, $2::bigint, $3::interval) AS held';
const PROGRESS = 'SELECT my_worker.progress($1::bigint, $2::bigint, $3::real, $4::text) AS held';
const EXTEND = `
SELECT t.id::text, t.lease::text, my_worker.extend(t.id, t.lease, $1::interval) AS held
  FROM unnest($2::bigint[], $3::bigint[]) AS t(id, lease)`;

const PATIENCE = 30_000; // ms that an answer may take beyond the wait that was asked for
const SERVER_GOES = ['57P01', '57P02']; // ended by an administrator, or by another process's crash

/** The attempt failed: try again after so many ms, not after the queue's backoff. */
export class RetryIn extends Error {
  constructor(delay, reason = 'asked to be retried') {
    super(reason);
    this.delay = delay;
  }
}

/** The job failed for good: no more attempts. */
export class Fail extends Error {}

/** Give the job back, to be taken again after the delay: no attempt is charged. */
export class Release extends Error {
  constructor(delay = null) {
    super('released');
    this.delay = delay;
  }
}

/** The job is no longer this worker's: cancelled, timed out, or the lease has ended. */
export class LeaseLost extends Error {
  constructor() {
    super('the lease was lost');
  }
}

export class Worker {
  #config;
  #options;
  #handlers = new Map();
  #hand = new Set(); // the jobs that this worker has: { job, receiver, stop, until, ending, done }
  #ready = []; // those of them that wait for a place to run
  #running = 0;
  #free; // how many more jobs it may have
  #most; // how many it asks for at once: where it has more than run, a half, so that the other half can end meanwhile
  #waiters = []; // called when that grows, or the worker stops
  #acks = [];
  #flushing = false;
  #stopping = new AbortController();
  #hurry = new AbortController();
  #ended = new AbortController();
  #control;
  #work;
  #log;

  constructor({ connection = {}, queues = 'default', concurrency = 10, lease = null, prefetch = 0,
    grace = 30_000, wait = 5_000, name = 'my_worker', signals = true, log = console } = {}) {
    this.#options = { queues: [queues].flat(), concurrency, lease, grace, wait, signals };
    this.#config = {
      keepAlive: true,
      keepAliveInitialDelayMillis: 30_000,
      fallback_application_name: name,
      ...(typeof connection === 'string' ? { connectionString: connection } : connection),
    };
    this.#free = concurrency + prefetch;
    this.#most = prefetch > 0 ? Math.ceil(this.#free / 2) : this.#free;
    this.#log = log;
    this.#control = this.#pool(1, { idleTimeoutMillis: 0, query_timeout: PATIENCE });
    this.#work = this.#pool(concurrency, {});
  }

  #pool(max, more) {
    const pool = new pg.Pool({ ...this.#config, ...more, max });
    const lost = () => {};
    pool.on('error', lost); // an idle connection: the next query opens another
    pool.on('connect', (client) => client.on('error', lost)); // one that is used: its next query fails
    return pool;
  }

  /** handle([kind or kinds,] [{ transaction: true },] handler): without a kind, for all the others. */
  handle(...given) {
    const run = given.pop();
    const isKind = (value) => typeof value === 'string' || Array.isArray(value);
    const kinds = isKind(given[0]) ? [given.shift()].flat() : [null];
    for (const kind of kinds) this.#handlers.set(kind, { run, transaction: given[0]?.transaction });
    return this;
  }

  /** Takes no more jobs; run() resolves when those at hand have ended. Called again: at once. */
  stop() {
    if (this.#stopping.signal.aborted) this.#hurry.abort();
    this.#stopping.abort();
    this.#addPlaces(0);
  }

  /** Serves until stop(), SIGTERM or SIGINT, once. Rejects if the first `receive` fails. */
  async run() {
    if (this.#handlers.size === 0) throw new Error('the worker has no handler: use handle()');
    const { queues, wait, concurrency, signals } = this.#options;
    const receivers = queues.map((queue) => new Receiver(queue, { ...this.#config, query_timeout: wait + PATIENCE }));
    const stop = () => this.stop();
    if (signals) process.on('SIGTERM', stop).on('SIGINT', stop);
    this.#stopping.signal.addEventListener('abort', () => receivers.forEach((receiver) => receiver.cancel()));
    this.#log.info(`my_worker: serving ${queues.join(', ')}, ${concurrency} at once`);
    const keeper = this.#keep();
    const loops = receivers.map((receiver) => this.#receive(receiver));
    try {
      await Promise.all(loops);
    } finally {
      this.#stopping.abort();
      this.#addPlaces(0);
      await Promise.allSettled(loops);
      await this.#finish();
      this.#ended.abort();
      if (signals) process.off('SIGTERM', stop).off('SIGINT', stop);
      const ends = [keeper, this.#control.end(), this.#work.end(), ...receivers.map((one) => one.close())];
      await Promise.race([Promise.allSettled(ends), nap(1_000)]); // a handler may not give its client back
    }
  }

  async #finish() {
    await this.#giveBack(this.#ready.splice(0));
    if (this.#hand.size > 0) {
      this.#log.info(`my_worker: stopping: ${this.#hand.size} jobs have ${this.#options.grace} ms to end`);
      const ends = Promise.all([...this.#hand].map((held) => held.done));
      await Promise.race([ends, sleep(this.#options.grace, null, { signal: this.#hurry.signal }).catch(() => {})]);
      this.#hurry.abort();
    }
    await this.#giveBack([...this.#hand]);
  }

  async #giveBack(jobs) {
    for (const held of jobs) {
      if (this.#hand.delete(held)) this.#addPlaces(1);
      held.stop.abort(new Error('the worker stops'));
    }
    const releases = jobs.map(({ job }) => this.#control.query(RELEASE, [job.id, job.lease, null]));
    await Promise.race([Promise.allSettled(releases), nap(5_000)]);
  }

  // ---- receiving ----

  async #receive(receiver) {
    let proven = false;
    for (let failures = 0; !this.#stopping.signal.aborted;) {
      try {
        await this.#take(receiver);
        proven = true;
        failures = 0;
      } catch (error) {
        if (this.#stopping.signal.aborted) break;
        if (!proven) throw error; // a wrong address, role or queue is said at once
        // The connection is in doubt, or leads to a standby: look for the primary.
        if (!isSqlState(error?.code) || error.code === '25006') await receiver.close();
        if (receiver.lost && this.#options.lease === null) {
          for (const held of this.#hand) if (held.receiver === receiver) this.#lose(held);
        }
        this.#log.warn(`my_worker: queue ${receiver.queue}: ${errorText(error)}; trying again`);
        await sleep(backoff(failures++), null, { signal: this.#stopping.signal }).catch(() => {});
      }
    }
  }

  // Takes what there is for the free places, or waits for a job. Several queues share the places:
  // each first takes without waiting. What a wait brings after the last place was taken is given
  // back, so that no queue blocks another.
  async #take(receiver) {
    const { queues, wait } = this.#options;
    while (this.#free === 0 && !this.#stopping.signal.aborted) {
      await new Promise((resolve) => this.#waiters.push(resolve));
    }
    if (this.#stopping.signal.aborted) return;
    const alone = queues.length === 1;
    const reserved = Math.min(this.#free, this.#most);
    this.#free -= reserved;
    let jobs;
    try {
      jobs = await this.#call(receiver, reserved, alone ? wait : 0);
    } finally {
      this.#addPlaces(reserved);
    }
    if (jobs.length === 0 && !alone && !this.#stopping.signal.aborted) jobs = await this.#call(receiver, 1, wait);
    for (const held of jobs.splice(0, this.#free)) {
      this.#free--;
      this.#hand.add(held);
      this.#ready.push(held);
    }
    this.#next();
    if (jobs.length > 0) await this.#giveBack(jobs);
  }

  async #call(receiver, n, wait) {
    const { lease } = this.#options;
    const kinds = this.#handlers.has(null) ? null : [...this.#handlers.keys()];
    const rows = await receiver.query(RECEIVE, [receiver.queue, n, interval(wait), interval(lease), kinds]);
    const until = lease === null ? Infinity : performance.now() + lease;
    return rows.map((row) => {
      const held = { job: null, receiver, stop: new Stop(), until, ending: false, done: null };
      held.job = new Job(row, receiver.queue, held.stop, (...told) => this.#tell(PROGRESS, held.job, ...told));
      return held;
    });
  }

  #addPlaces(places) {
    this.#free += places;
    this.#waiters.splice(0).forEach((resolve) => resolve());
  }

  // ---- running ----

  #next() {
    while (this.#running < this.#options.concurrency && this.#ready.length > 0) {
      const held = this.#ready.shift();
      this.#running++;
      held.done = this.#run(held);
    }
  }

  async #run(held) {
    let runs = true;
    const leave = () => {
      if (!runs) return;
      runs = false;
      this.#running--;
      this.#next();
    };
    try {
      await this.#attempt(held, leave);
    } catch (error) {
      this.#log.error(`my_worker: job ${held.job.id}: its end could not be told:`, error);
    } finally {
      if (this.#hand.delete(held)) this.#addPlaces(1);
      leave();
    }
  }

  // Another job runs once the handler has returned: many ends are then told together.
  async #attempt(held, leave) {
    const { job, stop } = held;
    const { run, transaction } = this.#handlers.get(job.kind) ?? this.#handlers.get(null);
    try {
      const acked = transaction ? await this.#transact(held, run) : await this.#runOutside(held, run, leave);
      if (!acked) this.#log.warn(`my_worker: job ${job.id}: the lease was lost`);
    } catch (error) {
      if (stop.aborted) {
        this.#log.info(`my_worker: job ${job.id} was stopped`); // given back, or no more ours
      } else if (error instanceof Release || SERVER_GOES.includes(error?.code)) {
        await this.#retry(held, () => this.#tell(RELEASE, job, interval(error.delay)));
      } else {
        await this.#nack(held, error);
      }
    }
  }

  async #runOutside(held, run, leave) {
    const result = toJson(await run(held.job));
    leave();
    return this.#ack(held, result);
  }

  async #transact(held, run) {
    const { job } = held;
    const client = await this.#work.connect().catch(() => { throw new Release(1_000); });
    let broken;
    try {
      await client.query('BEGIN');
      const result = toJson(await run(job, client));
      held.ending = true;
      const acked = (await client.query(ACK, [job.id, job.lease, result])).rows[0].held;
      await client.query(acked ? 'COMMIT' : 'ROLLBACK');
      return acked;
    } catch (error) {
      await client.query('ROLLBACK').catch((lost) => { broken = lost; });
      throw error;
    } finally {
      client.release(broken);
    }
  }

  // ---- ending jobs ----

  // Acknowledges together with all that end while the connection is busy: one COMMIT.
  #ack(held, result) {
    held.ending = true;
    return this.#retry(held, () => new Promise((resolve, reject) => {
      this.#acks.push({ job: held.job, result, resolve, reject });
      if (!this.#flushing) this.#flush();
    }));
  }

  async #flush() {
    this.#flushing = true;
    await new Promise(setImmediate); // for those that end in the same turn
    while (this.#acks.length > 0) {
      const batch = this.#acks.splice(0);
      await this.#sendAcks(ACK_PLAIN, batch.filter((ack) => ack.result === null));
      await this.#sendAcks(ACK_RESULTS, batch.filter((ack) => ack.result !== null));
    }
    this.#flushing = false;
  }

  async #sendAcks(sql, acks) {
    if (acks.length === 0) return;
    const values = [acks.map((ack) => ack.job.id), acks.map((ack) => ack.job.lease)];
    if (sql === ACK_RESULTS) values.push(acks.map((ack) => ack.result));
    try {
      const acked = new Set((await this.#control.query(sql, values)).rows.map((row) => row.id));
      for (const { job, resolve } of acks) resolve(acked.has(job.id));
    } catch (error) {
      if (acks.length === 1 || !error?.code?.startsWith('22')) {
        for (const { reject } of acks) reject(error);
      } else {
        for (const ack of acks) await this.#sendAcks(sql, [ack]); // find the result that is refused
      }
    }
  }

  async #nack(held, error) {
    const text = errorText(error);
    const expected = error instanceof RetryIn || error instanceof Fail;
    this.#log.warn(`my_worker: job ${held.job.id} failed: ${text}`, ...(expected ? [] : [error?.stack ?? '']));
    const delay = error instanceof RetryIn ? interval(error.delay) : null;
    const tell = (said) => this.#retry(held, () => this.#tell(NACK, held.job, said, delay, error instanceof Fail));
    // The second is for a character that the database's encoding does not have.
    await tell(text).catch((refused) => {
      if (!refused?.code?.startsWith('22')) throw refused;
      return tell(text.replace(/[^\x20-\x7e]/g, '?'));
    });
  }

  async #tell(sql, job, ...values) {
    return (await this.#control.query(sql, [job.id, job.lease, ...values])).rows[0].held;
  }

  // Tries over lost connections until the server has answered or the lease is gone.
  async #retry(held, call) {
    for (let failures = 0; ; failures++) {
      try {
        return await call();
      } catch (error) {
        if (held.stop.aborted || !isPassing(error)) throw error;
        this.#log.warn(`my_worker: job ${held.job.id}: ${errorText(error)}; trying again`);
        await sleep(backoff(failures));
      }
    }
  }

  // ---- keeping leases ----

  // Extends timed leases; of either kind of lease learns here that it is lost.
  async #keep() {
    const lease = this.#options.lease ?? 15_000;
    for (;;) {
      await sleep(lease / 3, null, { signal: this.#ended.signal }).catch(() => {});
      if (this.#ended.signal.aborted) return;
      const hand = [...this.#hand].filter((held) => !held.ending);
      if (hand.length === 0) continue;
      const now = performance.now();
      const values = [interval(lease), hand.map(({ job }) => job.id), hand.map(({ job }) => job.lease)];
      const told = this.#control.query(EXTEND, values).then(({ rows }) => {
        const lost = new Set(rows.filter((row) => !row.held).map((row) => `${row.id} ${row.lease}`));
        for (const held of hand) {
          if (lost.has(`${held.job.id} ${held.job.lease}`)) this.#lose(held);
          else if (this.#options.lease !== null) held.until = now + lease;
        }
      });
      told.catch((error) => this.#log.warn(`my_worker: could not extend leases: ${errorText(error)}`));
      await Promise.race([told.catch(() => {}), nap(lease / 3)]);
      for (const held of hand) if (held.until <= performance.now()) this.#lose(held);
    }
  }

  #lose(held) {
    if (!this.#hand.has(held) || held.stop.aborted) return;
    this.#log.warn(`my_worker: job ${held.job.id}: the lease was lost, its handler should stop`);
    held.stop.abort(new LeaseLost());
  }
}

/** Why a job is to stop. Its signal is made when it is asked for: most handlers never do. */
class Stop {
  #reason = null;
  #controller = null;

  get aborted() {
    return this.#reason !== null;
  }

  get signal() {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.aborted) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  abort(reason) {
    this.#reason ??= reason;
    this.#controller?.abort(reason);
  }
}

/** What a handler gets. */
class Job {
  #stop;
  #tell;

  constructor(row, queue, stop, tell) {
    Object.assign(this, row);
    this.queue = queue;
    this.#stop = stop;
    this.#tell = tell;
  }

  get signal() {
    return this.#stop.signal;
  }

  get progress() {
    return (percent, message = null) => this.#tell(percent, message);
  }
}

/** The connection that waits for the jobs of one queue: opened when needed, anew after a loss. */
class Receiver {
  #config;
  #client = null;
  #busy = false;

  constructor(queue, config) {
    this.queue = queue;
    this.#config = config;
  }

  get lost() {
    return this.#client === null;
  }

  async query(sql, values) {
    if (this.#client === null) {
      const client = new pg.Client(this.#config);
      const forget = () => { if (this.#client === client) this.#client = null; };
      client.on('error', forget).on('end', forget);
      await client.connect();
      this.#client = client;
    }
    this.#busy = true;
    try {
      return (await this.#client.query(sql, values)).rows;
    } finally {
      this.#busy = false;
    }
  }

  /** Asks the server to cancel the wait. If that fails the wait ends by itself. */
  cancel() {
    if (!this.#busy || this.#client === null) return;
    const { host, port, processID, secretKey } = this.#client;
    const request = Buffer.alloc(16);
    [16, 80877102, processID, secretKey].forEach((word, index) => request.writeInt32BE(word, index * 4));
    const path = host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port };
    net.connect(path, function send() { this.end(request); }).on('error', () => {});
  }

  async close() {
    const client = this.#client;
    this.#client = null;
    await Promise.race([client?.end().catch(() => {}), nap(1_000)]);
  }
}

const nap = (time) => sleep(time, null, { ref: false });
const backoff = (failures) => Math.min(10_000, 100 * 2 ** failures) * (0.5 + Math.random() / 2);
const toJson = (value) => (value === undefined || value === null ? null : JSON.stringify(value) ?? null);
const isSqlState = (code) => /^(?=.*\d)[0-9A-Z]{5}$/.test(code ?? '');

/** Whether another try may succeed: the connection was lost, or the server is short of something. */
function isPassing(error) {
  return isSqlState(error?.code) ? /^(08|53|57)/.test(error.code) : !(error instanceof TypeError);
}

/** What the job's `errors` say. Of a database error the message alone: detail may quote the row. */
function errorText(error) {
  if (error instanceof RetryIn || error instanceof Fail) return clean(error.message || 'failed');
  if (!(error instanceof Error)) return clean(String(error));
  const name = isSqlState(error.code) ? `${error.name} (${error.code})` : error.name;
  return clean(`${name}: ${error.message}`);
}

const clean = (text) => text.replaceAll('\0', '').slice(0, 1000);
