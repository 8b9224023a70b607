-- Tables to be copied, on both sides: yours, here two of a small CRM. The copy has no triggers and no foreign keys.
\set ON_ERROR_STOP on
CREATE SCHEMA crm;
CREATE TABLE crm.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text,
    credit numeric(10,2) NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE crm.notes (
    customer bigint,
    n integer,
    note text NOT NULL,
    PRIMARY KEY (customer, n)
);
