// The peer pg-boss: enqueues so many jobs, takes and completes them in two loops of 1,000 at once, and
// prints the milliseconds until enough of them are done. The job is nothing at all, or our SQL
// function, called for 24 jobs at once as a prepared statement.
const PgBoss = require("pg-boss");
const { Pool } = require("pg");

const SIZE = 1000;

async function main() {
  const [job, jobs, enough] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
  const pool = new Pool({ max: 24 });
  pool.on("error", () => {});
  const boss = new PgBoss({ host: process.env.PGHOST, user: process.env.PGUSER, database: process.env.PGDATABASE,
    max: 4, supervise: false, schedule: false });
  boss.on("error", () => {});
  await boss.start();
  await boss.createQueue("bench");
  await pool.query("TRUNCATE pgboss.job");
  for (let i = 0; i < jobs; i += 10000)
    await boss.insert(Array.from({ length: Math.min(10000, jobs - i) }, (_, n) => ({ name: "bench", data: { n: i + n } })));
  await pool.query("VACUUM ANALYZE pgboss.job");
  await pool.query("CHECKPOINT");

  const perform = async (batch) => {
    if (job === "own") return;
    let next = 0;
    const hand = async () => {
      while (next < batch.length) {
        const { data } = batch[next++];
        await pool.query({ name: job, text: `SELECT bench.${job}($1, $2)`, values: [data.n, "{}"] });
      }
    };
    await Promise.all(Array.from({ length: 12 }, hand));
  };

  let done = 0;
  const loop = async () => {
    while (done < enough) {
      const batch = await boss.fetch("bench", { batchSize: Math.min(SIZE, enough) });
      if (batch.length === 0) break;
      await perform(batch);
      await boss.complete("bench", batch.map((one) => one.id));
      done += batch.length;
    }
  };
  const begin = process.hrtime.bigint();
  await Promise.all([loop(), loop()]);
  const ms = Number(process.hrtime.bigint() - begin) / 1e6;
  if (done < enough) throw new Error(`only ${done} jobs came`);
  // More than enough may be done by now: the time of enough of them.
  console.log((ms * enough) / done);
  process.exit(0);
}

main().catch((error) => { console.error(error.message); process.exit(1); });
