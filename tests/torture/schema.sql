-- What the jobs of a torture run do. `effects` is what the model counts: a row is written in the transaction of
-- its job. Breaches that only the job itself can see go to the server's log, which no rollback and no crash undoes.

CREATE SCHEMA torture;
CREATE TABLE torture.markers (tx bigint PRIMARY KEY);
CREATE TABLE torture.effects (
    n    bigint,
    what text,
    job  bigint,
    pid  integer     DEFAULT pg_backend_pid(),
    at   timestamptz DEFAULT clock_timestamp()
);
CREATE INDEX ON torture.effects (n);
CREATE TABLE torture.schedules (
    id bigint, name text, runs bigint, first_due timestamptz, last_due timestamptz, seconds integer, all_of_them boolean);
CREATE TABLE torture.documents (key text PRIMARY KEY, version bigint NOT NULL, copied bigint NOT NULL DEFAULT 0);

-- At most so many transactions are in jobs of this name at once. A slot is an advisory lock of the transaction, so it is
-- free before the engine gives back the permit, whatever ends the transaction.
CREATE FUNCTION torture.occupy(name text, most integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Another job of the same batch has a slot already: they run one after the other.
    IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
                  AND classid = (hashtext(name)::bigint & 4294967295)::oid AND objsubid = 2) THEN
        RETURN;
    END IF;
    FOR slot IN 1 .. most LOOP
        IF pg_try_advisory_xact_lock(hashtext(name), slot) THEN
            RETURN;
        END IF;
    END LOOP;
    RAISE LOG 'torture: BREACH: job % runs beside % others of %', my_worker.current_job(), most, name;
END $$;

CREATE FUNCTION torture.work(id bigint, p jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    number bigint := p->>'n';
    mine   record;
BEGIN
    IF my_worker.current_job() IS DISTINCT FROM id THEN
        RAISE LOG 'torture: BREACH: job % is told that it is job %', my_worker.current_job(), id;
    END IF;
    PERFORM torture.occupy(p->>'occupy', (p->>'most')::integer) WHERE p ? 'occupy';
    SELECT * INTO mine FROM public.my_queue AS q WHERE q.id = work.id;
    IF mine.owner <> current_user::regrole OR session_user <> current_user THEN
        RAISE LOG 'torture: BREACH: job % of % runs as %, session of %', id, mine.owner, current_user, session_user;
    END IF;
    IF mine.origin IS NOT NULL THEN
        INSERT INTO torture.effects (n, what, job) VALUES (number, 'letter', id);
        RETURN 'letter';
    END IF;
    IF (p->>'snooze')::integer > (SELECT count(*) FROM torture.effects AS e WHERE e.n = number AND e.what = 'snooze') THEN
        INSERT INTO torture.effects (n, what, job) VALUES (number, 'snooze', id);
        PERFORM my_worker.snooze('30 ms');
        RETURN 'snooze';
    END IF;
    INSERT INTO torture.effects (n, what, job) VALUES (number, 'done', id);
    PERFORM pg_sleep((p->>'sleep')::float8) WHERE p ? 'sleep';
    IF (p->>'fail')::integer > mine.attempts OR random() < (p->>'often')::float8 THEN
        RAISE EXCEPTION 'attempt % is meant to fail', mine.attempts + 1;
    END IF;
    PERFORM my_worker.give_up('no more') WHERE p ? 'give_up';
    RETURN 'done';
END $$;

-- One call for many jobs: one that is told to fail takes the others with it, and is then found.
CREATE FUNCTION torture.work_together(ids bigint[], ps jsonb[]) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO torture.effects (n, what, job)
        SELECT (p->>'n')::bigint, 'done', id FROM unnest(ids, ps) AS j (id, p);
    IF EXISTS (SELECT FROM unnest(ps) AS p WHERE (p->>'always_fail')::boolean) THEN
        RAISE EXCEPTION 'one of % is meant to fail', cardinality(ids);
    END IF;
    RETURN cardinality(ids);
END $$;

CREATE FUNCTION torture.command(number bigint, seconds float8 = 0) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO torture.effects (n, what, job) VALUES (number, 'done', my_worker.current_job());
    PERFORM pg_sleep(seconds);
END $$;

-- Copies the newest version of a document, as a job of unique_mode 'rerun' would.
CREATE FUNCTION torture.copy_document(id bigint, p jsonb) RETURNS void LANGUAGE sql
    AS $$ UPDATE torture.documents SET copied = version WHERE key = p->>'key' $$;

CREATE FUNCTION torture.tick(id bigint, p jsonb) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO torture.effects (what, job) VALUES ('tick', id) $$;

CREATE FUNCTION torture.shaky(id bigint, p jsonb) RETURNS text LANGUAGE sql
    AS $$ INSERT INTO torture.effects (n, what, job) VALUES ((p->>'n')::bigint, 'done', id) RETURNING what $$;

-- Kills its own process each time; a file counts how often.
CREATE FUNCTION torture.poison(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO torture.effects (n, what, job) VALUES ((p->>'n')::bigint, 'done', id);
    EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format('echo %s >> %s; kill -9 $PPID', p->>'n', p->>'file'));
END $$;

-- Returns when so many jobs are in it at once: at the end of a run, to see that no permit was lost.
CREATE FUNCTION torture.meet(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    place constant integer := hashtext(p->>'place');
BEGIN
    PERFORM pg_advisory_xact_lock_shared(place);
    WHILE (p->>'most')::integer > (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND (classid::bigint << 32 | objid::bigint) = place AND objsubid = 1) AND NOT EXISTS (
            SELECT FROM torture.effects WHERE what = p->>'place') LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    INSERT INTO torture.effects (what, job) VALUES (p->>'place', id);
END $$;

CREATE ROLE alice LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE carol LOGIN;
SELECT my_worker.grant_usage(role) FROM unnest('{alice,bob,carol}'::regrole[]) AS role;
GRANT USAGE ON SCHEMA torture TO PUBLIC;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA torture TO PUBLIC;

DO $$
DECLARE
    quick constant text := 'max_attempts => 60, backoff => ''50 ms'', backoff_max => ''300 ms''';
BEGIN
    EXECUTE format('SELECT my_worker.create_queue(''plain'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''together'', handler => ''torture.work_together'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''savepoints'', jobs_per_savepoint => 20, %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''two'', concurrency => 2, %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''keys'', per_key => 2, %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''fifo'', fifo => true, %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''rated'', rate => 40, rate_period => ''1 s'', burst => 5, %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''rated_keys'', rate => 10, rate_period => ''1 s'', rate_per_key => true, %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''commands'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''letters'', handler => ''torture.work'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''dying'', dead_letter => ''letters'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''documents'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''ticks'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''shaky'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''poison'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''mail'', %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''mail_two'', concurrency => 2, %s)', quick);
    EXECUTE format('SELECT my_worker.create_queue(''mail_fifo'', fifo => true, %s)', quick);
    PERFORM my_worker.grant_consume(q, r) FROM unnest('{mail,mail_two,mail_fifo}'::text[]) AS q, unnest('{alice,bob}'::regrole[]) AS r;
END $$;
