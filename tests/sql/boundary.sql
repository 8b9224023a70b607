-- The boundary between the server and Rust: an error, a panic or a lack of memory on either side is
-- an ERROR of the statement, every Rust value is dropped, and the session goes on.
CREATE FUNCTION probe(what text) RETURNS integer AS '$libdir/my_worker', 'mw_probe' LANGUAGE C STRICT;
SELECT probe('dropped') AS at_first;
-- Source lines differ from build to build.
DO $$
DECLARE
    kind text;
    state text;
    said text;
    hinted text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['panic', 'index', 'error', 'allocation', 'unheard of'] LOOP
        BEGIN
            PERFORM probe(kind);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, said = MESSAGE_TEXT, hinted = PG_EXCEPTION_HINT;
            RAISE INFO '%: % % (%)', kind, state, regexp_replace(said, '\d{6,}', 'N'), hinted;
        END;
    END LOOP;
END
$$;
-- A guard a probe, and one more below the error of the server.
SELECT probe('dropped') AS afterwards;
-- Caught as a value within Rust, cleaned up by a subtransaction.
SELECT probe('caught') AS caught, probe('dropped') AS dropped;
-- No memory for the report of an error, whether the server raises it or we do.
SELECT probe('no room');
SELECT probe('no room for ours');
-- A panic while the memory of a statement is freed reaches nobody.
SELECT probe('panic at the end');
SELECT probe('dropped') AS dropped;
-- The same backend is still there, and so is its transaction machinery.
SELECT pg_current_xact_id_if_assigned() IS NULL AS clean;
DROP FUNCTION probe(text);

-- The script of another version may declare other columns than the library has values for.
CREATE FUNCTION fewer(OUT items_processed bigint, OUT status text) AS '$libdir/my_worker', 'mw_get_worker_stats' LANGUAGE C;
SELECT fewer();
CREATE FUNCTION more(OUT items_processed bigint, OUT last_run timestamptz, OUT status text, OUT extra text)
    AS '$libdir/my_worker', 'mw_get_worker_stats' LANGUAGE C;
SELECT more();
CREATE FUNCTION fewer_rows() RETURNS TABLE (slot integer, pid integer)
    AS '$libdir/my_worker', 'mw_workers' LANGUAGE C;
SELECT * FROM fewer_rows();
DROP FUNCTION fewer();
DROP FUNCTION more();
DROP FUNCTION fewer_rows();
-- A table that lacks the columns that its trigger reads: they count as NULL.
CREATE TABLE narrow (id bigint);
CREATE FUNCTION before_write() RETURNS trigger AS '$libdir/my_worker', 'mw_before_write' LANGUAGE C;
CREATE TRIGGER before_write BEFORE INSERT ON narrow FOR EACH ROW EXECUTE FUNCTION before_write();
INSERT INTO narrow VALUES (NULL);
DROP TABLE narrow;
DROP FUNCTION before_write();
