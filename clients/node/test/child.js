// A worker as a process of its own: writes to a file when a job begins and ends.
//
//     node test/child.js QUEUE FILE MS_OF_A_JOB CONCURRENCY GRACE [LEASE]

import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from '../index.js';

const [queues, file, time, concurrency, grace, lease] = process.argv.slice(2);
const worker = new Worker({
  queues, concurrency: Number(concurrency), grace: Number(grace), lease: lease ? Number(lease) : null,
});
worker.handle(async ({ id }) => {
  appendFileSync(file, `begin ${id}\n`);
  await sleep(Number(time), null, { ref: false });
  appendFileSync(file, `end ${id}\n`);
});
await worker.run();
process.exit(0);
