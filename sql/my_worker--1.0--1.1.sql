/* my_worker--1.0--1.1.sql: what changes from 1.0 to 1.1 */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION my_worker UPDATE TO '1.1'" to load this file. \quit

-- Every name below is qualified; the path is pinned so that none can be captured.
SET LOCAL search_path TO pg_catalog, pg_temp;
