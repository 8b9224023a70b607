// A consumer by LISTEN/NOTIFY, the peer of the scenario `latency`: sleeps on its socket, takes each job
// by DELETE as soon as it is told, and notes when it did.
const { Client } = require("pg");

async function main() {
  const settings = { host: process.env.PGHOST, user: process.env.PGUSER, database: process.env.PGDATABASE };
  const ears = new Client(settings);
  const hands = new Client(settings);
  await ears.connect();
  await hands.connect();
  ears.on("notification", (told) =>
    hands.query({
      name: "take",
      text:
        "WITH j AS (DELETE FROM bench.jobs WHERE id = $1 RETURNING payload) " +
        "INSERT INTO bench.starts (what, sent) SELECT 'listener', (payload->>'at')::timestamptz FROM j",
      values: [told.payload],
    })
  );
  await ears.query("LISTEN bench");
  setTimeout(() => process.exit(0), 1000 * Number(process.argv[2]));
}

main().catch((error) => { console.error(error.message); process.exit(1); });
