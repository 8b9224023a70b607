/* my_worker--1.1.sql: built from sql/parts by "make sql", do not edit */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION my_worker" to load this file. \quit

-- Every name below is qualified; the path is pinned so that none can be captured.
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE SCHEMA my_worker;
COMMENT ON SCHEMA my_worker IS 'my_worker: jobs, queues, schedules and what they report';
