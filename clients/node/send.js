// Puts jobs into the queue, in the transaction of the caller's client. Ids are strings.

const PARAMETERS = {
  handler: ['handler', 'text'],
  queue: ['queue', 'text'],
  payload: ['payload', 'jsonb'],
  payloads: ['payloads', 'jsonb[]'],
  kind: ['kind', 'text'],
  headers: ['headers', 'jsonb'],
  priority: ['priority', 'integer'],
  runAt: ['run_at', 'timestamptz'],
  maxAttempts: ['max_attempts', 'integer'],
  timeout: ['timeout', 'interval'],
  uniqueKey: ['unique_key', 'text'],
  uniqueMode: ['unique_mode', 'text'],
  groupKey: ['group_key', 'text'],
  after: ['after', 'bigint[]'],
  afterFailed: ['after_failed', 'text'],
  expiresAt: ['expires_at', 'timestamptz'],
};

/** Sends a job to a queue's consumers; resolves to its id. */
export async function send(client, queue, payload = {}, options = {}) {
  return (await call(client, 'send', { ...options, queue, payload }))[0];
}

/** Sends a job for each payload; resolves to their ids. */
export function sendMany(client, queue, payloads, options = {}) {
  return call(client, 'send_many', { ...options, queue, payloads });
}

/** Enqueues a call of a function in the server; resolves to the job's id. */
export async function enqueue(client, handler, payload = {}, options = {}) {
  return (await call(client, 'enqueue', { ...options, handler, payload }))[0];
}

async function call(client, name, given) {
  const values = [];
  const parameters = [];
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(PARAMETERS, key)) throw new TypeError(`${name}() has no parameter "${key}"`);
    if (value === undefined || (value === null && key !== 'payload')) continue;
    const [parameter, type] = PARAMETERS[key];
    values.push(toSql(key, type, value));
    parameters.push(`${parameter} => $${values.length}::${type}`);
  }
  const text = `SELECT job::text FROM my_worker.${name}(${parameters.join(', ')}) AS job`;
  return (await client.query({ text, values, rowMode: 'array' })).rows.map(([id]) => id);
}

function toSql(key, type, value) {
  if (type === 'jsonb') return JSON.stringify(value);
  if (type === 'jsonb[]') return value.map((one) => JSON.stringify(one));
  return key === 'timeout' ? interval(value) : value;
}

/** Milliseconds, or PostgreSQL's own text, as an interval. */
export function interval(time) {
  return typeof time === 'number' ? `${time} milliseconds` : (time ?? null);
}
