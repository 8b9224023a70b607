use super::*;
use crate::logic::cron::CronExpr;
use crate::logic::rule::Every;
use crate::logic::testing::{BERLIN, NEW_YORK, Rng, UTC, show, utc};

const MINUTE: Micros = 60 * MICROS_PER_SEC;
const GRACE: Micros = 10 * MICROS_PER_SEC;

fn cron(text: &str) -> Rule {
    Rule::Cron(CronExpr::parse(text).unwrap())
}

fn look(next_run_at: &str) -> Look {
    Look {
        next_run_at: utc(next_run_at),
        last_due: None,
        unfinished: 0,
        catchup: Catchup::One,
        overlap: Overlap::Skip,
        grace: GRACE,
    }
}

/// The plan as text: due times, then whether some were left out, then the next one.
fn planned(look: &Look, rule: &Rule, now: &str) -> (Vec<String>, bool, String) {
    let plan = plan(look, rule, &UTC, utc(now));
    let dues = plan
        .enqueue
        .into_iter()
        .map(|t| show(t)[11..16].to_owned())
        .collect();
    let next = plan.next_run_at.map_or_else(|| "never".to_owned(), show);
    (dues, plan.left_out, next[11..16].to_owned())
}

#[test]
fn names_are_exact() {
    assert_eq!(Catchup::from_name(b"all"), Some(Catchup::All));
    assert_eq!(Catchup::from_name(b"ALL"), None);
    assert_eq!(Overlap::from_name(b"queue"), Some(Overlap::Queue));
    assert_eq!(Overlap::from_name(b""), None);
}

#[test]
fn nothing_happens_before_the_due_time() {
    let got = planned(
        &look("2025-01-01 10:00"),
        &cron("0 * * * *"),
        "2025-01-01 09:59:59",
    );
    assert_eq!(got, (vec![], false, "10:00".to_owned()));
}

#[test]
fn a_due_time_is_enqueued_and_the_next_one_stored() {
    for catchup in [Catchup::None, Catchup::One, Catchup::All] {
        let look = Look {
            catchup,
            ..look("2025-01-01 10:00")
        };
        for now in ["2025-01-01 10:00", "2025-01-01 10:00:10"] {
            let got = planned(&look, &cron("0 * * * *"), now);
            assert_eq!(got, (vec!["10:00".to_owned()], false, "11:00".to_owned()));
        }
    }
}

#[test]
fn missed_due_times_follow_catchup() {
    let dues = |catchup| {
        let look = Look {
            catchup,
            ..look("2025-01-01 10:00")
        };
        planned(&look, &cron("0 * * * *"), "2025-01-01 12:30")
    };
    assert_eq!(dues(Catchup::None), (vec![], true, "13:00".to_owned()));
    assert_eq!(
        dues(Catchup::One),
        (vec!["12:00".to_owned()], true, "13:00".to_owned())
    );
    let all = ["10:00", "11:00", "12:00"].map(str::to_owned).to_vec();
    assert_eq!(dues(Catchup::All), (all, false, "13:00".to_owned()));
}

#[test]
fn a_single_missed_one_is_made_up_for() {
    let got = planned(
        &look("2025-01-01 10:00"),
        &cron("0 10 * * *"),
        "2025-01-01 17:00",
    );
    assert_eq!(got, (vec!["10:00".to_owned()], false, "10:00".to_owned()));
}

#[test]
fn several_due_times_within_grace_are_all_on_time() {
    let rule = cron("* * * * * *");
    for catchup in [Catchup::None, Catchup::One, Catchup::All] {
        let look = Look {
            catchup,
            ..look("2025-01-01 10:00")
        };
        let plan = plan(&look, &rule, &UTC, utc("2025-01-01 10:00:03"));
        assert_eq!((plan.enqueue.len(), plan.left_out), (4, false));
    }
}

#[test]
fn all_is_bounded_and_keeps_the_latest() {
    let look = Look {
        catchup: Catchup::All,
        ..look("2020-01-01 00:00")
    };
    let now = utc("2025-01-01 00:00:30");
    let plan = plan(&look, &cron("* * * * *"), &BERLIN, now);
    assert_eq!((plan.enqueue.len(), plan.left_out), (MAX_CATCHUP, true));
    assert_eq!(plan.enqueue.last(), Some(&utc("2025-01-01 00:00")));
    assert!(plan.enqueue.windows(2).all(|w| w[1] - w[0] == MINUTE));
}

#[test]
fn unfinished_jobs_follow_overlap() {
    let plan_for = |overlap, unfinished| {
        let look = Look {
            overlap,
            unfinished,
            ..look("2025-01-01 10:00")
        };
        planned(&look, &cron("0 * * * *"), "2025-01-01 10:00:01")
    };
    let runs = (vec!["10:00".to_owned()], false, "11:00".to_owned());
    let skipped = (vec![], true, "11:00".to_owned());
    assert_eq!(plan_for(Overlap::Skip, 0), runs);
    assert_eq!(plan_for(Overlap::Skip, 1), skipped);
    assert_eq!(plan_for(Overlap::Queue, 1), runs);
    assert_eq!(plan_for(Overlap::Queue, MAX_CATCHUP as u64), skipped);
    assert_eq!(plan_for(Overlap::Allow, u64::MAX), runs);
}

#[test]
fn a_clock_set_back_repeats_nothing() {
    let (last, rule) = (Some(utc("2025-01-01 12:00")), cron("0 * * * *"));
    let look = Look {
        last_due: last,
        ..look("2025-01-01 13:00")
    };
    let got = planned(&look, &rule, "2025-01-01 10:30");
    assert_eq!(got, (vec![], false, "13:00".to_owned()));
    // The same with a next_run_at that someone computed anew.
    let look = Look {
        next_run_at: utc("2025-01-01 11:00"),
        ..look
    };
    let got = planned(&look, &rule, "2025-01-01 11:30");
    assert_eq!(got, (vec![], false, "13:00".to_owned()));
}

#[test]
fn a_stored_time_is_due_even_if_the_rule_does_not_name_it() {
    let got = planned(
        &look("2025-01-01 10:07"),
        &cron("0 12 * * *"),
        "2025-01-01 10:08",
    );
    assert_eq!(got, (vec!["10:07".to_owned()], false, "12:00".to_owned()));
}

#[test]
fn infinite_stored_times_are_not_enqueued() {
    let mut look = Look {
        catchup: Catchup::All,
        ..look("2025-01-01 00:00")
    };
    look.next_run_at = i64::MIN;
    let now = utc("2025-01-01 12:30");
    let plan = plan(&look, &cron("0 0 1 1 *"), &UTC, now);
    assert!(
        plan.enqueue
            .iter()
            .all(|due| *due > utc("0001-01-01 00:00") && *due <= now)
    );
    assert_eq!(plan.enqueue.len(), MAX_CATCHUP);
}

#[test]
fn looking_back_from_an_infinite_time_ends_without_a_due_time() {
    let every = Every::new(0, 0, 90 * MICROS_PER_SEC).unwrap();
    let anchor = utc("2025-01-01 12:00");
    for catchup in [Catchup::None, Catchup::One, Catchup::All] {
        let look = Look {
            catchup,
            next_run_at: i64::MIN,
            ..look("2025-01-01 00:00")
        };
        let now = utc("2025-01-01 11:00");
        let plan = plan(&look, &Rule::Every { every, anchor }, &UTC, now);
        assert_eq!((plan.enqueue, plan.next_run_at), (vec![], Some(anchor)));
    }
}

#[test]
fn a_rule_that_ends_has_no_next_run() {
    let look = look("294276-01-01 00:00");
    let plan = plan(&look, &cron("@yearly"), &UTC, look.next_run_at);
    assert_eq!(
        (plan.enqueue, plan.next_run_at),
        (vec![look.next_run_at], None)
    );
}

#[test]
fn the_latest_due_time_is_found_like_by_walking() {
    let mut rng = Rng::new(15);
    let anchor = utc("2025-01-01 00:00:01");
    let every = Every::new(0, 0, 17 * MINUTE).unwrap();
    let rules = [
        cron("*/7 3 * * *"),
        cron("30 2 * * *"),
        cron("0 */5 * * *"),
        Rule::Every { every, anchor },
    ];
    for _ in 0..2_000 {
        let rule = rng.pick(&rules);
        let low = utc("2025-03-01 00:00") + rng.range(0, 40 * 1440) * MINUTE;
        let until = low + rng.range(0, 3 * 86_400) * MICROS_PER_SEC;
        let next = |t: &Timestamp| rule.next_after(*t, &BERLIN).filter(|due| *due <= until);
        let walked = std::iter::successors(next(&low), next).last();
        assert_eq!(latest_due(rule, &BERLIN, low, until), walked);
    }
}

/// Drives schedules through clocks that run, jump and go back.
#[test]
fn no_due_time_runs_twice_and_all_runs_each_once() {
    let mut rng = Rng::new(16);
    let every = Every::new(0, 0, 90 * MICROS_PER_SEC).unwrap();
    for round in 0..500 {
        let start = utc("2025-03-29 00:00") + rng.range(0, 86_400) * MICROS_PER_SEC;
        let texts = ["*/10 * * * *", "30 2 * * *", "15 */4 * * *"];
        let rule = match round % 4 {
            0 => Rule::Every {
                every,
                anchor: start,
            },
            n => cron(texts[n - 1]),
        };
        let zone = *rng.pick(&[&UTC, &BERLIN, &NEW_YORK]);
        let catchup = *rng.pick(&[Catchup::None, Catchup::One, Catchup::All]);
        let mut state = Look {
            next_run_at: rule.next_after(start, zone).unwrap(),
            catchup,
            ..look("2025-01-01 00:00")
        };
        let (mut now, mut latest, mut fired) = (start, start, Vec::new());
        for _ in 0..100 {
            now += match rng.range(0, 9) {
                0 => -rng.range(0, 7200) * MICROS_PER_SEC,
                1 => rng.range(0, 20_000) * MICROS_PER_SEC,
                _ => rng.range(0, 900) * MICROS_PER_SEC,
            };
            latest = latest.max(now);
            let plan = plan(&state, &rule, zone, now);
            fired.extend(&plan.enqueue);
            state.last_due = fired.last().copied();
            state.next_run_at = plan.next_run_at.unwrap();
            assert!(state.next_run_at > now || plan.enqueue.is_empty());
        }
        assert!(fired.windows(2).all(|w| w[0] < w[1]));
        let next = |t: &Timestamp| rule.next_after(*t, zone).filter(|due| *due <= latest);
        let expected: Vec<_> = std::iter::successors(next(&start), next).collect();
        assert!(fired.iter().all(|due| expected.contains(due)));
        if catchup == Catchup::All {
            assert_eq!(fired, expected);
        }
    }
}

#[test]
fn no_input_panics() {
    let mut rng = Rng::new(17);
    let rule = cron("0 0 1 1 *");
    for _ in 0..2_000 {
        let look = Look {
            next_run_at: rng.any_i64(),
            last_due: Some(rng.any_i64()),
            unfinished: rng.next(),
            catchup: *rng.pick(&[Catchup::None, Catchup::One, Catchup::All]),
            overlap: *rng.pick(&[Overlap::Skip, Overlap::Queue, Overlap::Allow]),
            grace: rng.any_i64(),
        };
        let now = rng.any_i64();
        let plan = plan(&look, &rule, &BERLIN, now);
        assert!(
            plan.enqueue
                .iter()
                .all(|due| *due <= now && Some(*due) > look.last_due)
        );
    }
}
