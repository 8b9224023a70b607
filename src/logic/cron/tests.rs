use super::*;
use crate::logic::testing::{BERLIN, LORD_HOWE, NEW_YORK, Rng, TableZone, UTC, show, utc};

fn cron(text: &str) -> CronExpr {
    CronExpr::parse(text).unwrap()
}

/// The next `n` due instants in UTC.
fn runs(text: &str, zone: &dyn Zone, after: &str, n: usize) -> Vec<String> {
    let expr = cron(text);
    let next = |t: &Timestamp| expr.next_after(*t, zone);
    std::iter::successors(next(&utc(after)), next)
        .take(n)
        .map(show)
        .collect()
}

fn assert_runs(text: &str, zone: &dyn Zone, after: &str, expected: &[&str]) {
    let got = runs(text, zone, after, expected.len());
    assert_eq!(got, expected, "{text} after {after}");
}

#[test]
fn plain_expressions_in_utc() {
    let after = "2025-06-13 12:34:56"; // a Friday
    for (text, next) in [
        ("* * * * *", "2025-06-13 12:35:00"),
        ("* * * * * *", "2025-06-13 12:34:57"),
        ("*/20 * * * * *", "2025-06-13 12:35:00"),
        ("0 9 * * mon-fri", "2025-06-16 09:00:00"),
        ("0 0 L * *", "2025-06-30 00:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("59 23 31 12 *", "2025-12-31 23:59:00"),
        ("30 12 13 6 *", "2026-06-13 12:30:00"),
        ("@weekly", "2025-06-15 00:00:00"),
    ] {
        assert_runs(text, &UTC, after, &[next]);
    }
}

#[test]
fn either_day_field_is_enough() {
    let first_days = [
        "2025-06-02 00:00:00",
        "2025-06-09 00:00:00",
        "2025-06-13 00:00:00",
    ];
    assert_runs("0 0 13 * mon", &UTC, "2025-06-01 00:00", &first_days);
    let odd_or_monday = [
        "2025-06-02 00:00:00",
        "2025-06-03 00:00:00",
        "2025-06-05 00:00:00",
    ];
    assert_runs("0 0 */2 * 1", &UTC, "2025-06-01 00:00", &odd_or_monday);
    let mondays = ["2025-06-02 00:00:00", "2025-06-09 00:00:00"];
    assert_runs("0 0 ? * 1", &UTC, "2025-06-01 00:00", &mondays);
    assert_runs(
        "0 0 */1 * */7",
        &UTC,
        "2025-06-01 00:00",
        &["2025-06-08 00:00:00"],
    );
    assert_runs(
        "0 0 */9 * 1-7",
        &UTC,
        "2025-06-01 00:00",
        &["2025-06-10 00:00:00"],
    );
    assert_runs(
        "0 0 1-31 * 1",
        &UTC,
        "2025-06-01 00:00",
        &["2025-06-02 00:00:00", "2025-06-03 00:00:00"],
    );
}

#[test]
fn the_instant_asked_for_is_not_an_answer() {
    assert_runs(
        "0 12 * * *",
        &UTC,
        "2025-06-13 12:00",
        &["2025-06-14 12:00:00"],
    );
    let almost = utc("2025-06-13 12:00") - 1;
    assert_eq!(
        cron("0 12 * * *").next_after(almost, &UTC),
        Some(almost + 1)
    );
}

#[test]
fn skipped_readings_run_once_at_the_jump() {
    let jump = "2025-03-30 01:00:00";
    for text in [
        "30 2 * * *",
        "0 2 * * *",
        "*/10 2 * * *",
        "0 2,3 * * *",
        "15 30 2 * * *",
    ] {
        assert_eq!(runs(text, &BERLIN, "2025-03-30 00:59", 1), [jump], "{text}");
        assert!(runs(text, &BERLIN, jump, 1)[0].as_str() > jump);
    }
    let next_day = ["2025-03-30 01:00:00", "2025-03-31 00:30:00"];
    assert_runs("30 2 * * *", &BERLIN, "2025-03-29 12:00", &next_day);
}

#[test]
fn repeated_readings_run_the_first_time() {
    let days = [
        "2025-10-25 00:30:00",
        "2025-10-26 00:30:00",
        "2025-10-27 01:30:00",
    ];
    assert_runs("30 2 * * *", &BERLIN, "2025-10-25 00:00", &days);
    let fast = ["2025-10-26 00:59:59", "2025-10-27 01:00:00"];
    assert_runs("* * 2 * * *", &BERLIN, "2025-10-26 00:59:58", &fast);
    // Asked in the middle of the second pass.
    assert_runs(
        "30 2 * * *",
        &BERLIN,
        "2025-10-26 01:15",
        &["2025-10-27 01:30:00"],
    );
}

#[test]
fn every_hour_follows_elapsed_time() {
    let spring = ["2025-03-30 00:30:00", "2025-03-30 01:30:00"];
    assert_runs("30 * * * *", &BERLIN, "2025-03-30 00:00", &spring);
    let autumn = [
        "2025-10-26 00:30:00",
        "2025-10-26 01:30:00",
        "2025-10-26 02:30:00",
    ];
    assert_runs("30 0-23 * * *", &BERLIN, "2025-10-26 00:00", &autumn);
    let from_second_pass = ["2025-10-26 01:30:00", "2025-10-26 02:30:00"];
    assert_runs("30 * * * *", &BERLIN, "2025-10-26 01:00", &from_second_pass);
    for expected in 1..12 {
        let after = utc("2025-10-26 00:00") + (expected - 1) * 600 * MICROS_PER_SEC;
        let next = cron("*/10 * * * *").next_after(after, &BERLIN).unwrap();
        assert_eq!(next - after, 600 * MICROS_PER_SEC);
    }
}

#[test]
fn half_hour_changes_keep_the_rules() {
    // 02:00 becomes 02:30 at 15:30 UTC.
    let before = "2025-10-04 15:20";
    assert_runs("15 2 * * *", &LORD_HOWE, before, &["2025-10-04 15:30:00"]);
    assert_runs("15 * * * *", &LORD_HOWE, before, &["2025-10-04 16:15:00"]);
}

#[test]
fn a_lost_day_runs_once() {
    let apia = TableZone {
        first: -36_000,
        table: &[(1_325_239_200, 50_400)],
    };
    let days = [
        "2011-12-29 10:00:00",
        "2011-12-30 10:00:00",
        "2011-12-31 10:00:00",
    ];
    assert_runs("@daily", &apia, "2011-12-29 00:00", &days);
}

#[test]
fn impossible_dates_are_never_due() {
    for text in [
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 31 2 ?",
        "0 0 30-31 feb *",
    ] {
        let started = std::time::Instant::now();
        assert_eq!(
            cron(text).next_after(utc("2025-01-01 00:00"), &BERLIN),
            None,
            "{text}"
        );
        assert!(started.elapsed().as_millis() < 100);
    }
}

#[test]
fn rare_dates_are_found() {
    assert_runs(
        "0 0 29 2 *",
        &UTC,
        "2096-03-01 00:00",
        &["2104-02-29 00:00:00"],
    );
    assert_runs(
        "0 0 1 1 *",
        &UTC,
        "9998-06-01 00:00",
        &["9999-01-01 00:00:00", "10000-01-01 00:00:00"],
    );
    let last = MAX_LOCAL * MICROS_PER_SEC;
    let expr = cron("59 23 31 12 *");
    assert_eq!(expr.next_after(last, &UTC), None);
    assert_eq!(
        expr.next_after(last - 86_400 * MICROS_PER_SEC, &NEW_YORK),
        None
    );
    let end = cron("59 59 23 31 12 *").next_after(last - 1, &UTC);
    assert_eq!(end, Some(last));
}

#[test]
fn infinite_and_distant_times_are_never_due() {
    let last = MAX_LOCAL * MICROS_PER_SEC;
    for t in [i64::MIN, i64::MAX, i64::MIN + 1, last, last + 1] {
        assert_eq!(cron("* * * * *").next_after(t, &BERLIN), None);
    }
    assert!(
        cron("* * * * *")
            .next_after(-211_813_488_000_000_000, &BERLIN)
            .is_some()
    );
}

fn random_expr(rng: &mut Rng) -> CronExpr {
    let mut field = |low: i64, high: i64, star: i64| match rng.range(0, 9) {
        n if n < star => "*".to_owned(),
        n if n % 3 == 0 => format!("*/{}", rng.range(1, 20)),
        n if n % 3 == 1 => {
            let from = rng.range(low, high);
            format!("{from}-{}", rng.range(from, high))
        }
        _ => format!("{},{}", rng.range(low, high), rng.range(low, high)),
    };
    let (s, m, h) = (field(0, 59, 2), field(0, 59, 3), field(0, 23, 4));
    let (dom, mon, dow) = (field(1, 31, 6), field(1, 12, 7), field(0, 7, 7));
    cron(&format!("{s} {m} {h} {dom} {mon} {dow}"))
}

#[test]
fn results_increase_and_match() {
    let mut rng = Rng::new(6);
    let (low, high) = (utc("2024-01-01 00:00"), utc("2030-12-31 00:00"));
    for _ in 0..20_000 {
        let expr = random_expr(&mut rng);
        let zone = *rng.pick(&[&UTC, &BERLIN, &NEW_YORK, &LORD_HOWE]);
        let mut t = rng.range(low, high);
        for _ in 0..5 {
            let Some(next) = expr.next_after(t, zone) else {
                break;
            };
            assert!(next > t && next % MICROS_PER_SEC == 0);
            let before = next - MICROS_PER_SEC;
            let local = zone::to_local(zone, next / MICROS_PER_SEC);
            let after_jump = zone.offset_at(before) < zone.offset_at(next);
            assert!(expr.next_local(local - 1) == Some(local) || after_jump);
            // Nothing is due in between, from wherever one looks.
            assert_eq!(expr.next_after(rng.range(t, next - 1), zone), Some(next));
            t = next;
        }
    }
}

#[test]
fn local_search_agrees_with_trying_every_second() {
    let mut rng = Rng::new(7);
    for _ in 0..2_000 {
        let expr = random_expr(&mut rng);
        let from = rng.range(0, 30 * 365 * 86_400);
        let fits = |local: &i64| {
            let (day, second) = calendar::split(*local);
            expr.covers(day)
                && expr.hours & bit(second / 3600) != 0
                && expr.minutes & bit(second / 60 % 60) != 0
                && expr.seconds & bit(second % 60) != 0
        };
        let slow = (from + 1..from + 7200).find(fits);
        let fast = expr.next_local(from).filter(|local| *local < from + 7200);
        assert_eq!(fast, slow);
    }
}

#[test]
fn a_lying_zone_ends_the_search() {
    struct Liar;
    impl Zone for Liar {
        fn offset_at(&self, t: Timestamp) -> i32 {
            ((t / MICROS_PER_SEC) as i32).wrapping_mul(0x9e37_79b9_u32 as i32) % 50_000
        }
    }
    let mut rng = Rng::new(8);
    for _ in 0..5_000 {
        let (expr, t) = (random_expr(&mut rng), rng.any_i64());
        assert!(expr.next_after(t, &Liar).is_none_or(|next| next > t));
    }
}
