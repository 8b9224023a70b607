// graphile-worker's share of the scenario `drain`: enqueues so many jobs that do nothing, in its own
// process and not in the server, and prints the milliseconds that they take.
const { run, runMigrations } = require("graphile-worker");
const { Pool } = require("pg");

async function main() {
  const jobs = Number(process.argv[2]);
  const pool = new Pool({ host: process.env.PGHOST, user: process.env.PGUSER, database: process.env.PGDATABASE, max: 30 });
  await runMigrations({ pgPool: pool });
  // As its own benchmark does it: add_job() takes minutes for so many in one statement.
  await pool.query("INSERT INTO graphile_worker._private_tasks (identifier) VALUES ('noop') ON CONFLICT DO NOTHING");
  await pool.query(
    "INSERT INTO graphile_worker._private_jobs (task_id) SELECT id FROM graphile_worker._private_tasks, generate_series(1, $1::int) WHERE identifier = 'noop'",
    [jobs]
  );
  await pool.query("VACUUM ANALYZE graphile_worker._private_jobs");
  await pool.query("CHECKPOINT");
  let left = jobs;
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  const begin = process.hrtime.bigint();
  const runner = await run({
    pgPool: pool,
    concurrency: 24,
    noHandleSignals: true,
    preset: { worker: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0, concurrentJobs: 24 } },
    taskList: { noop: async () => { if (--left === 0) finish(); } },
    logger: new (require("graphile-worker").Logger)(() => () => {}),
  });
  await finished;
  console.log(Number(process.hrtime.bigint() - begin) / 1e6);
  await runner.stop();
  await pool.end();
}

main().catch((error) => { console.error(error.message); process.exit(1); });
