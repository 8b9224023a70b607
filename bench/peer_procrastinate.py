"""The peer procrastinate: enqueues so many jobs, runs them 24 at once, finished ones deleted, and prints
the milliseconds until enough of them are done. The job calls our SQL function over a pool of connections."""

import asyncio
import logging
import os
import sys
import time

import procrastinate
import psycopg_pool

JOB, JOBS, ENOUGH = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

app = procrastinate.App(connector=procrastinate.PsycopgConnector(min_size=4, max_size=30))
left = ENOUGH
finished = asyncio.Event()
pool = None


@app.task(name="bench", pass_context=True)
async def bench(context):
    global left
    async with pool.connection() as connection:
        await connection.execute(f"SELECT bench.{JOB}(%s, '{{}}')", (context.job.id,), prepare=True)
    left -= 1
    if left == 0:
        finished.set()


async def main():
    global pool
    logging.disable(logging.CRITICAL)
    async with psycopg_pool.AsyncConnectionPool("", min_size=24, max_size=24, kwargs={"autocommit": True}, open=False) as pool:
        async with app.open_async():
            if not await app.check_connection_async():
                await app.schema_manager.apply_schema_async()
            async with pool.connection() as connection:
                await connection.execute("TRUNCATE procrastinate_jobs CASCADE")
                for first in range(0, JOBS, 10000):
                    await bench.batch_defer_async(*[{}] * min(10000, JOBS - first))
                await connection.execute("VACUUM ANALYZE procrastinate_jobs")
                await connection.execute("CHECKPOINT")
            begin = time.monotonic()
            asyncio.create_task(
                app.run_worker_async(concurrency=24, wait=True, listen_notify=False, delete_jobs="always", install_signal_handlers=False)
            )
            await asyncio.wait_for(finished.wait(), 280)
            print(1000 * (time.monotonic() - begin), flush=True)
            # The rest stays undone: nothing is worth an orderly end.
            os._exit(0)


try:
    asyncio.run(main())
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
