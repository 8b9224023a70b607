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
-- The same backend is still there, and so is its transaction machinery.
SELECT pg_current_xact_id_if_assigned() IS NULL AS clean;
DROP FUNCTION probe(text);
