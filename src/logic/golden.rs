//! Compares [`CronExpr::next_after`] with what an independent library answered.
//!
//! `tests/cron/golden.py` wrote the file, and says which answers are not that library's. To run
//! the comparison on more expressions: `golden.py 2000 7 > golden.txt`, then the test.

use super::MICROS_PER_SEC;
use super::cron::CronExpr;
use super::testing::{BERLIN, EPOCH_UNIX, NEW_YORK, UTC, show};
use super::zone::Zone;

const GOLDEN: &str = include_str!("../../tests/cron/golden.txt");

/// One line of answers: seconds to the next due time, None for never.
fn answers(line: &str) -> Vec<Option<i64>> {
    line.split(' ')
        .map(|word| word.trim_end_matches('!').parse().ok())
        .collect()
}

fn check(text: &str, zone: &dyn Zone, starts: &[i64], expected: &[Option<i64>]) {
    assert_eq!(starts.len(), expected.len());
    let expr = CronExpr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    for (start, seconds) in starts.iter().zip(expected) {
        let after = (start - EPOCH_UNIX) * MICROS_PER_SEC;
        let expected = seconds.map(|s| after + s * MICROS_PER_SEC).map(show);
        let got = expr.next_after(after, zone).map(show);
        assert_eq!(got, expected, "{text} after {}", show(after));
    }
}

#[test]
fn next_after_equals_an_independent_library() {
    let mut lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
    let starts = lines
        .next()
        .and_then(|line| line.strip_prefix("@ "))
        .expect("the instants");
    let starts: Vec<i64> = answers(starts).into_iter().flatten().collect();
    let mut expressions = 0;
    while let Some(line) = lines.next() {
        let text = line.strip_prefix("= ").expect("an expression");
        for zone in [&UTC, &BERLIN, &NEW_YORK] {
            check(
                text,
                zone,
                &starts,
                &answers(lines.next().expect("answers")),
            );
        }
        expressions += 1;
    }
    assert!(expressions >= 250 && starts.len() >= 20);
}
