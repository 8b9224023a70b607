//! The declaration against the SQL that makes the tables.

use super::*;

const JOBS_SQL: &str = include_str!("../../../sql/parts/10_queue.sql");
const CONSUMERS_SQL: &str = include_str!("../../../sql/parts/30_consumers.sql");
const SCHEDULES_SQL: &str = include_str!("../../../sql/parts/60_schedules.sql");

/// Name, type and whether NOT NULL, of each column of a table.
fn columns_of(sql: &str, table: &str) -> Vec<(String, String, bool)> {
    let start = sql
        .find(&format!(" TABLE {table} ("))
        .unwrap_or_else(|| panic!("{table} is not there"));
    let mut found = Vec::new();
    for line in sql[start..].lines().skip(1) {
        if line.starts_with(')') {
            break;
        }
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        if ["UNIQUE", "CHECK", "PRIMARY"].contains(&name) {
            continue;
        }
        let kind = words.next().unwrap_or_default().trim_end_matches(',');
        let is_key = ["PRIMARY KEY", "NOT NULL", "AS IDENTITY"];
        let is_never_null = is_key.iter().any(|words| line.contains(words));
        found.push((name.to_owned(), kind.to_owned(), is_never_null));
    }
    found
}

fn declared(table: &Table) -> Vec<(String, String, bool)> {
    let columns = table.columns.iter();
    columns
        .map(|column| {
            let is_never_null = column.presence == Presence::Always;
            let kind = column.kind.name();
            (column.name.to_owned(), kind.to_owned(), is_never_null)
        })
        .collect()
}

#[test]
fn each_table_is_declared_as_sql_makes_it() {
    for (table, sql) in TABLES.iter().zip([
        JOBS_SQL,
        JOBS_SQL,
        JOBS_SQL,
        SCHEDULES_SQL,
        CONSUMERS_SQL,
        JOBS_SQL,
        JOBS_SQL,
    ]) {
        assert_eq!(
            declared(table),
            columns_of(sql, table.name),
            "{}",
            table.name
        );
    }
}

#[test]
fn callers_are_granted_the_columns_that_authors_set() {
    let start = JOBS_SQL
        .find("FUNCTION my_worker_internal.columns_of_authors")
        .unwrap();
    let list = JOBS_SQL[start..].split('\'').nth(1).unwrap();
    let granted: Vec<&str> = list.split(", ").collect();
    let set = JOB_COLUMNS.iter();
    let set = set.filter(|one| one.home == Home::Both && one.setter == Setter::Author);
    assert_eq!(granted, set.map(|one| one.column.name).collect::<Vec<_>>());
}

#[test]
fn places_count_the_columns_of_each_table() {
    assert_eq!((job::ID, job::LAST_ERROR, job::ERRORS), (1, 16, 17));
    assert_eq!(
        (history::LAST_ERROR, history::FINISHED_AT, history::ERRORS),
        (16, 17, 19)
    );
    assert_eq!(job::COUNT, JOBS.columns.len());
    for (place, column) in IN_JOBS.iter().zip(HISTORY.columns) {
        let same = usize::try_from(*place - 1)
            .ok()
            .map(|index| JOBS.columns[index].name);
        assert_eq!(same.unwrap_or(column.name), column.name);
    }
    assert_eq!(IN_JOBS.iter().filter(|place| **place == 0).count(), 2);
}

#[test]
fn a_statement_gives_what_authors_and_the_door_set() {
    let names: Vec<&str> = GIVEN
        .iter()
        .map(|place| JOBS.columns[*place as usize - 1].name)
        .collect();
    assert!(
        names.contains(&"queue") && names.contains(&"owner") && names.contains(&"handler_owner")
    );
    assert!(!names.contains(&"id") && !names.contains(&"status") && !names.contains(&"result"));
}
