//! The settings of queues: which arguments of `create_queue()` and `alter_queue()` they are, and their
//! defaults. The tests compare both with `sql/parts`.

use super::columns::{Column, QUEUES, queue as column};

/// A setting of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its place among the columns of `queues`.
    pub column: i32,
    /// Its default, as SQL writes it; `None`: NULL.
    pub default: Option<&'static str>,
}

const fn unset(column: i32) -> Setting {
    let default = None;
    Setting { column, default }
}

const fn or(column: i32, default: &'static str) -> Setting {
    let default = Some(default);
    Setting { column, default }
}

/// All settings, in the order of the arguments, which begin with the queue's name.
pub const SETTINGS: [Setting; 17] = [
    unset(column::HANDLER),
    unset(column::CONCURRENCY),
    or(column::MAX_ATTEMPTS, "5"),
    or(column::BACKOFF, "'5 s'"),
    or(column::BACKOFF_MAX, "'1 h'"),
    unset(column::TIMEOUT),
    or(column::RETENTION, "'7 days'"),
    unset(column::PER_KEY),
    or(column::FIFO, "false"),
    unset(column::RATE),
    unset(column::RATE_PERIOD),
    or(column::BURST, "1"),
    or(column::RATE_PER_KEY, "false"),
    unset(column::DEAD_LETTER),
    or(column::JOBS_PER_SAVEPOINT, "1"),
    unset(column::RETRY_ON),
    unset(column::FAIL_ON),
];

impl Setting {
    /// Its column of `queues`.
    pub const fn declared(&self) -> Column {
        declared(self.column)
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.declared().name
    }
}

// The compiler runs this: a place that is not there is an error of the build.
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
const fn declared(place: i32) -> Column {
    QUEUES.columns[place as usize - 1]
}

/// The name of the setting in that column of `queues`.
pub fn name(column: i32) -> &'static str {
    let setting = SETTINGS.iter().find(|setting| setting.column == column);
    setting.map_or("", Setting::name)
}

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE_SQL: &str = include_str!("../../sql/parts/10_queue.sql");
    const JOBS_SQL: &str = include_str!("../../sql/parts/20_jobs.sql");

    /// Name, type and default of each argument of a function.
    fn arguments_of(function: &str) -> Vec<(String, String, Option<String>)> {
        let start = JOBS_SQL
            .find(&format!("FUNCTION my_worker.{function}("))
            .unwrap();
        let list = JOBS_SQL[start..].split_once('(').unwrap().1;
        let list = list.split_once(") RETURNS").unwrap().0;
        let of = |argument: &str| {
            let (declared, default) = argument
                .split_once(" DEFAULT ")
                .map_or((argument, None), |(d, v)| (d, Some(v)));
            let (name, kind) = declared.trim().split_once(' ').unwrap();
            let default = default.map(str::trim).filter(|default| *default != "NULL");
            (name.to_owned(), kind.to_owned(), default.map(str::to_owned))
        };
        list.split(',').map(of).collect()
    }

    #[test]
    fn settings_are_the_arguments_behind_the_name() {
        for (function, has_defaults) in [("create_queue", true), ("alter_queue", false)] {
            let arguments = arguments_of(function);
            let expected = SETTINGS.iter().map(|setting| {
                let default = setting.default.filter(|_| has_defaults).map(str::to_owned);
                let kind = setting.declared().kind.name();
                (setting.name().to_owned(), kind.to_owned(), default)
            });
            assert_eq!(arguments[1..], expected.collect::<Vec<_>>(), "{function}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let table = QUEUE_SQL.split_once("TABLE my_worker.queues (").unwrap().1;
        let table = table.split_once("\n);").unwrap().0;
        for setting in SETTINGS {
            let is_it = |line: &&str| line.split_whitespace().next() == Some(setting.name());
            let line = table.lines().find(is_it).unwrap();
            let default = line.split_once(" DEFAULT ").map(|(_, rest)| rest);
            assert_eq!(default.is_some(), setting.default.is_some(), "{line}");
            if let (Some(rest), Some(default)) = (default, setting.default) {
                assert!(rest.starts_with(default), "{line}");
            }
        }
    }

    #[test]
    fn settings_are_found_by_name() {
        assert_eq!(
            find("fifo").map(|setting| setting.column),
            Some(column::FIFO)
        );
        assert!(find("name").is_none() && find("paused").is_none());
    }
}
