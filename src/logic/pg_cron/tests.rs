use super::*;
use crate::logic::testing::{BERLIN, NEW_YORK, UTC, show, utc};

fn entry(text: &str) -> Entry {
    match read(text.as_bytes(), false) {
        Ok(Meaning::Entry(entry)) => entry,
        other => panic!("{text}: {other:?}"),
    }
}

fn ours(text: &str) -> Result<String, Refusal> {
    entry(text).text(text).map(|(text, _)| text)
}

fn refused(text: &str) -> Refusal {
    match read(text.as_bytes(), false) {
        Err(refusal) => refusal,
        Ok(Meaning::Entry(entry)) => entry.text(text).unwrap_err(),
        Ok(every) => panic!("{text}: {every:?}"),
    }
}

#[test]
fn texts_stay_as_they_are_where_they_mean_the_same() {
    for text in [
        "* * * * *",
        "*/5 * * * *",
        "0 0 * * 1-5",
        "0 1 * * 0",
        "0 13 2 6 *",
        "30 3 * * 6",
        "0 0 1 jan-jun Mon",
        "0 0 1,15 * *",
        "10-50/10 */2 * * *",
        "@hourly",
        "@daily",
        "@midnight",
        "@weekly",
        "@monthly",
        "0 0 1-31 * *",
    ] {
        assert_eq!(ours(text), Ok(text.to_owned()));
    }
    assert_eq!(ours("0 12 $ * *"), Ok("0 12 L * *".to_owned()));
    assert_eq!(ours("0 12 $ * 1"), Ok("0 12 L * 1".to_owned()));
}

#[test]
fn others_are_written_anew() {
    // What follows the fifth field, or an item, is not read.
    assert_eq!(ours("0 3 * * * /usr/bin/x"), Ok("0 3 * * *".to_owned()));
    assert_eq!(ours("0 3 * * * 5"), Ok("0 3 * * *".to_owned()));
    assert_eq!(ours("0;x 3#7 * * 6#3"), Ok("0 3 * * 6".to_owned()));
    assert_eq!(ours("# a comment\n 0 3 * * *"), Ok("0 3 * * *".to_owned()));
    // A step does not keep a star from being one: here that makes no difference.
    assert_eq!(ours("0 0 */2 * *"), Ok("0 0 */2 * *".to_owned()));
    assert_eq!(ours("0 0 */1 * mon"), Ok("0 0 * * 1".to_owned()));
    // One of both is enough, and any day is one.
    assert_eq!(ours("0 0 1-31 * mon"), Ok("0 0 * * *".to_owned()));
    assert_eq!(ours("0 0 13 * 0-7"), Ok("0 0 * * *".to_owned()));
}

#[test]
fn what_has_no_counterpart_is_refused() {
    assert_eq!(refused("0 0 */2 * 1"), Refusal::BothDays);
    assert_eq!(refused("0 0 1 * */2"), Refusal::BothDays);
    assert_eq!(refused("@reboot"), Refusal::Reboot);
    assert_eq!(refused("@yearly"), Refusal::Yearly);
    assert_eq!(refused("@annually"), Refusal::Yearly);
    assert_eq!(refused("0 22-6 * * *"), Refusal::Backwards);
    assert_eq!(refused("0 0 * * fri-sun"), Refusal::Backwards);
    for text in [
        "",
        "nonsense",
        "* * * *",
        "60 * * * *",
        "1/20 * * * *",
        "*/0 * * * *",
        "*/60 * * * *",
        "0 0 L * *",
        "0 0 15W * *",
        "@dailies",
        "0 12 $",
        "60 seconds",
        "0 seconds",
        "30 second ",
        "every 30 seconds",
    ] {
        assert_eq!(refused(text), Refusal::Unreadable, "{text}");
    }
    assert_eq!(refused(&"*".repeat(1000)), Refusal::Unreadable);
    let both = read(b"0 0 1 * 1", true);
    let Ok(Meaning::Entry(both)) = both else {
        panic!("{both:?}")
    };
    assert_eq!(both.text("0 0 1 * 1"), Err(Refusal::BothDays));
}

#[test]
fn seconds_are_read() {
    for (text, seconds) in [("30 seconds", 30), (" 1 SECOND", 1), ("59seconds ", 59)] {
        assert_eq!(read(text.as_bytes(), false), Ok(Meaning::Every(seconds)));
    }
}

#[test]
fn nights_in_which_clocks_are_set_may_differ() {
    let now = utc("2026-01-01 00:00");
    let differs = |text: &str, zone: &dyn Zone| {
        let entry = entry(text);
        let (_, expr) = entry.text(text).unwrap();
        let at = entry.differs(&expr, zone, now);
        at.map(|at| show(at * MICROS_PER_SEC))
    };
    // Skipped, and repeated.
    let spring = Some("2026-03-29 01:00:00".to_owned());
    assert_eq!(differs("30 2 * * *", &BERLIN), spring);
    assert_eq!(differs("0 3 * * *", &BERLIN), None);
    assert!(differs("30 1 * * *", &NEW_YORK).is_some());
    // By elapsed time on either side, or in the afternoon.
    assert_eq!(differs("*/10 * * * *", &BERLIN), None);
    assert_eq!(differs("0 12 * * *", &BERLIN), None);
    assert_eq!(differs("30 2 * * *", &UTC), None);
    // A last day of 25 hours, or the one before a day of 23.
    assert!(differs("30 0 $ * *", &BERLIN).is_some());
    assert_eq!(differs("30 12 $ * *", &BERLIN), None);
}

#[test]
fn each_minute_of_some_years_is_the_same() {
    let (from, until) = (utc("2027-01-31 00:00"), utc("2029-02-28 00:00"));
    for text in [
        "0 0 13 * 5",
        "*/7 9-17 * * 1-5",
        "0 12 $ 2 *",
        "15 10 $ * 2",
        "0 0 1 */3 *",
        "5,10,40 1-23/5 2-30/4 * *",
        "0 0 29 2 *",
        "0 0 * * 7",
    ] {
        let entry = entry(text);
        let (_, expr) = entry.text(text).unwrap();
        let until = until.div_euclid(MICROS_PER_SEC);
        let from = from.div_euclid(MICROS_PER_SEC);
        assert_eq!(
            entry.differs_within(&expr, &UTC, from, until),
            None,
            "{text}"
        );
    }
}
