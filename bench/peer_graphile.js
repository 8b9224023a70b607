// The peer graphile-worker: enqueues so many jobs, runs them in its own process, and prints the milliseconds
// until enough of them are done. The job is its own empty task, or one that calls our SQL function
// over its connections, as a prepared statement.
const { run, runMigrations, Logger } = require("graphile-worker");
const { Pool } = require("pg");

async function main() {
  const [job, jobs, enough] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
  const pool = new Pool({ max: 30 });
  pool.on("error", () => {});
  await runMigrations({ pgPool: pool });
  await pool.query("TRUNCATE graphile_worker._private_jobs");
  // As its own benchmark does it: add_job() takes minutes for so many in one statement.
  await pool.query("INSERT INTO graphile_worker._private_tasks (identifier) VALUES ($1) ON CONFLICT DO NOTHING", [job]);
  await pool.query(
    "INSERT INTO graphile_worker._private_jobs (task_id) SELECT id FROM graphile_worker._private_tasks, generate_series(1, $1::int) WHERE identifier = $2",
    [jobs, job]
  );
  await pool.query("VACUUM ANALYZE graphile_worker._private_jobs");
  await pool.query("CHECKPOINT");
  let left = enough;
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  const done = () => { if (--left === 0) finish(); };
  const call = (name) => async (payload, helpers) => {
    await helpers.withPgClient((client) =>
      client.query({ name, text: `SELECT bench.${name}($1, $2)`, values: [helpers.job.id, "{}"] }));
    done();
  };
  const begin = process.hrtime.bigint();
  const runner = await run({
    pgPool: pool,
    concurrency: 24,
    noHandleSignals: true,
    preset: { worker: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0, concurrentJobs: 24 } },
    taskList: { own: async () => done(), noop: call("noop"), touch: call("touch") },
    logger: new Logger(() => () => {}),
  });
  await finished;
  console.log(Number(process.hrtime.bigint() - begin) / 1e6);
  if (enough === jobs) await runner.stop();
  process.exit(0);
}

main().catch((error) => { console.error(error.message); process.exit(1); });
