-- Who the role is, and what it may do: the names of functions that it may execute and of relations that it may
-- read, in the schema my_worker. Catalogs alone: to_regprocedure() would raise where the schema is closed.
SELECT current_user::text, current_database()::text, current_setting('server_version'), pg_is_in_recovery(),
       (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'my_worker'),
       ARRAY(SELECT p.proname::text FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
              WHERE n.nspname = 'my_worker' AND has_schema_privilege(n.oid, 'USAGE')
                AND has_function_privilege(p.oid, 'EXECUTE')
              UNION
             SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
              WHERE n.nspname = 'my_worker' AND c.relkind IN ('r', 'v') AND has_schema_privilege(n.oid, 'USAGE')
                AND has_table_privilege(c.oid, 'SELECT'))
