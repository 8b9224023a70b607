// Our Node client beside graphile-worker and pg-boss: runs jobs that wait, 24 at once, as an empty task of its own, and
// prints the milliseconds until so many are done.
import { Worker } from "./client/index.js";

const enough = Number(process.argv[2]);
const quiet = { info() {}, warn: console.error, error: console.error };
const worker = new Worker({ queues: "consumed", concurrency: 24, prefetch: 500, log: quiet });
let left = enough;
let begin;
worker.handle(async () => {
  if (--left === 0) {
    console.log(Number(process.hrtime.bigint() - begin) / 1e6);
    worker.stop();
  }
});
begin = process.hrtime.bigint();
worker.run().catch((error) => { console.error(error.message); process.exit(1); });
