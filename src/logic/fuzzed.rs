//! Each parser against texts that are made of pieces of good ones and of noise: none panics, and what it takes means
//! something. A moment in `cargo test`; `make fuzz SECONDS=600` goes on for so long, from another seed each time, which it
//! prints.

use std::time::{Duration, Instant};

use super::cron::CronExpr;
use super::names::{self, Names};
use super::pg_cron::{self, Meaning};
use super::retry_rules::{self, Codes};
use super::rule::{self, Parsed};
use super::testing::{BERLIN, Rng};
use super::{Timestamp, home};

const PIECES: &[&str] = &[
    "*",
    "*/5",
    "0",
    "59",
    "60",
    "1-5",
    "5-1",
    "1,2",
    ",",
    "-",
    "/",
    "L",
    "W",
    "#2",
    "MON",
    "fri",
    "JAN",
    "dec",
    "@daily",
    "@reboot",
    "@",
    "every",
    "EVERY ",
    "30 seconds",
    "second",
    " ",
    "\t",
    "  ",
    "?",
    "7",
    "31",
    "00",
    "4294967296",
    "-1",
    "\"",
    "\"\"",
    "a,b",
    "A\"b",
    "ü",
    "İ",
    "\u{0}",
    "\u{1f980}",
    "40001",
    "P0",
    "zz",
    "'1 2 3 4 5 6'",
    "'",
    "18446744073709551615",
    "9223372036854775808",
    "%",
    "*/0",
    "0-59/7",
    "*,*",
    "SUN-SAT",
    "$",
    "~",
    "H",
];

/// A text: some pieces, sometimes with a blank between them, of which a byte may be another one.
fn text(rng: &mut Rng) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..rng.range(0, 9) {
        text.extend_from_slice(rng.pick(PIECES).as_bytes());
        if rng.range(0, 2) != 0 {
            text.push(b' ');
        }
    }
    if rng.range(0, 7) == 0 {
        // Longer than anything may be.
        let times = rng.range(0, 600) as usize;
        text = text.repeat(times.max(1));
        text.truncate(5_000);
    }
    if !text.is_empty() && rng.range(0, 3) == 0 {
        let at = rng.range(0, text.len() as i64 - 1) as usize;
        text[at] = rng.next() as u8;
    }
    text
}

/// Calls `look` with texts for so long as it is said, or for a moment.
fn fuzz(name: &str, mut look: impl FnMut(&[u8], &mut Rng)) {
    let given = |variable: &str| {
        std::env::var(variable)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    let seconds: Option<u64> = given("MY_WORKER_FUZZ_SECONDS");
    let mut seed = given("MY_WORKER_FUZZ_SEED").unwrap_or(1);
    if seconds.is_some() && given("MY_WORKER_FUZZ_SEED").is_none() {
        seed = std::process::id().into();
    }
    let limit = seconds.map_or(Duration::from_millis(300), Duration::from_secs);
    println!("{name}: MY_WORKER_FUZZ_SEED={seed}");
    let (began, mut rng, mut count) = (Instant::now(), Rng::new(seed), 0_u64);
    while began.elapsed() < limit {
        for _ in 0..100 {
            let text = text(&mut rng);
            look(&text, &mut rng);
            count += 1;
        }
    }
    println!("{name}: {count} texts");
}

#[test]
fn cron_expressions_mean_times_to_come() {
    fuzz("cron", |bytes, rng| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(cron) = CronExpr::parse(&text) else {
            return;
        };
        // Where a zone's table ends, and the clock with it, is no matter of the parser.
        let after: Timestamp = rng.any_i64() / 4;
        if let Some(next) = cron.next_after(after, &BERLIN) {
            assert!(next > after, "{text}: {next} after {after}");
        }
    });
}

#[test]
fn rules_are_an_interval_or_an_expression() {
    fuzz("rule", |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        match rule::parse(&text) {
            Ok(Parsed::Every(interval)) => assert!(!interval.trim().is_empty()),
            Ok(Parsed::Cron(_)) => assert!(CronExpr::parse(&text).is_ok()),
            Err(error) => assert!(!error.to_string().is_empty() && !error.hint().is_empty()),
        }
        rule::looks_like_schedule(&text);
    });
}

#[test]
fn lists_are_names_that_can_be_listed_again() {
    fuzz("list", |bytes, _| {
        let Ok(Names::These(all)) = names::parse_list(bytes) else {
            return;
        };
        assert!(all.iter().all(|name| !name.is_empty()));
        let quoted = |name: &Vec<u8>| {
            let inside: Vec<u8> = name
                .iter()
                .flat_map(|byte| match byte {
                    b'"' => vec![b'"', b'"'],
                    other => vec![*other],
                })
                .collect();
            [b"\"", inside.as_slice(), b"\""].concat()
        };
        let again = all.iter().map(quoted).collect::<Vec<_>>().join(&b", "[..]);
        match names::parse_list(&again) {
            Ok(Names::These(same)) => assert!(same == all),
            _ => panic!("a list that was read is not read again: {again:?}"),
        }
    });
}

#[test]
fn texts_of_pg_cron_are_read_or_refused() {
    fuzz("pg_cron", |bytes, rng| {
        let both = rng.range(0, 1) == 0;
        if let Ok(Meaning::Every(seconds)) = pg_cron::read(bytes, both) {
            assert!((1..60).contains(&seconds));
        }
    });
}

#[test]
fn codes_and_bodies_are_read_or_passed_by() {
    fuzz("codes", |bytes, _| {
        let codes = Codes::new([bytes.to_vec()]);
        assert!(!codes.hold(b"") && codes.hold(bytes) == retry_rules::is_code(bytes));
        home::parse(bytes);
    });
}
