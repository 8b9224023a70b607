//! Tests of sessions that wait.

use super::super::Channel;
use super::{Arrival, Group, Kinds, Rest, Scope, WAITING, Waiting};
use crate::logic::pool::Wake;

const CHANNEL: Channel = Channel {
    database: 1,
    queue: 2,
};

fn group(scope: Scope) -> Group {
    Group {
        channel: CHANNEL,
        scope,
        kinds: Kinds::ANY,
    }
}

fn arrival(owner: u32, jobs: u32) -> Arrival {
    Arrival {
        channel: CHANNEL,
        owner: Some(owner),
        kind: Some(5),
        jobs,
    }
}

fn told(waiting: &mut Waiting, arrival: Arrival) -> Vec<i32> {
    let mut wake = Vec::new();
    waiting.tell(&arrival, &mut wake);
    numbers(wake)
}

fn numbers(wake: impl IntoIterator<Item = Wake>) -> Vec<i32> {
    wake.into_iter().filter_map(Wake::procno).collect()
}

#[test]
fn a_commit_wakes_as_many_as_its_jobs_need() {
    let mut waiting = Waiting::empty();
    for n in 1..=5 {
        assert!(waiting.enter(n, 100 + n, 10, group(Scope::Role(10)), 1));
    }
    assert_eq!(told(&mut waiting, arrival(10, 1)), [101]);
    assert_eq!(told(&mut waiting, arrival(10, 2)), [102, 103]);
    assert_eq!(told(&mut waiting, arrival(11, 1)), []);
    assert_eq!(told(&mut waiting, arrival(10, 9)), [104, 105]);
    waiting.begin_look(2);
    assert_eq!(told(&mut waiting, arrival(10, 1)), [102]);
}

#[test]
fn one_that_takes_many_is_enough_for_many() {
    let mut waiting = Waiting::empty();
    waiting.enter(1, 101, 10, group(Scope::All), 100);
    waiting.enter(2, 102, 10, group(Scope::All), 100);
    assert_eq!(told(&mut waiting, arrival(10, 100)), [101]);
}

#[test]
fn one_that_may_have_no_right_is_not_counted_on() {
    let mut waiting = Waiting::empty();
    waiting.enter(1, 101, 10, group(Scope::Several(1)), 1);
    waiting.enter(2, 102, 11, group(Scope::Role(11)), 1);
    assert_eq!(told(&mut waiting, arrival(11, 1)), [101, 102]);
}

#[test]
fn kinds_are_told_apart() {
    let mut waiting = Waiting::empty();
    let of = |hashes: &[u32]| Group {
        kinds: Kinds::of(hashes),
        ..group(Scope::All)
    };
    waiting.enter(1, 101, 10, of(&[6, 7]), 1);
    waiting.enter(2, 102, 10, of(&[5]), 1);
    assert_eq!(told(&mut waiting, arrival(10, 1)), [102]);
    let several = Arrival {
        kind: None,
        ..arrival(10, 1)
    };
    assert_eq!(told(&mut waiting, several), [101]);
}

#[test]
fn what_one_was_told_and_leaves_another_is_told() {
    let mut waiting = Waiting::empty();
    waiting.enter(1, 101, 10, group(Scope::All), 1);
    waiting.enter(2, 102, 10, group(Scope::All), 1);
    assert_eq!(told(&mut waiting, arrival(10, 1)), [101]);
    assert_eq!(numbers(waiting.leave(1)), [102, 102]);
    assert!(waiting.rest_on(2).is_told);
    // It has looked, so nothing is left to hand on.
    waiting.begin_look(2);
    assert_eq!(numbers(waiting.leave(2)), []);
}

#[test]
fn only_the_leader_sleeps_to_the_next_due_time() {
    let mut waiting = Waiting::empty();
    waiting.enter(1, 101, 10, group(Scope::All), 1);
    waiting.enter(2, 102, 10, group(Scope::All), 1);
    let rest = |until| Rest {
        is_told: false,
        until,
    };
    assert_eq!(waiting.rest(1, 500), rest(500));
    assert_eq!(waiting.rest(2, 500), rest(0));
    let mut wake = Vec::new();
    waiting.tell_later(&arrival(10, 1), 400, &mut wake);
    waiting.tell_later(&arrival(10, 1), 450, &mut wake);
    assert_eq!(numbers(wake), [101]);
    assert_eq!(waiting.rest_on(1), rest(400));
    assert_eq!(numbers(waiting.leave(1)), [102]);
    assert_eq!(waiting.rest_on(2), rest(400));
}

#[test]
fn a_commit_of_an_unknown_queue_tells_all_that_it_may_be_for() {
    let mut waiting = Waiting::empty();
    waiting.enter(1, 101, 10, group(Scope::All), 1);
    let unknown = Arrival {
        channel: Channel {
            database: 1,
            queue: 0,
        },
        owner: None,
        kind: None,
        jobs: 3,
    };
    assert_eq!(told(&mut waiting, unknown), [101]);
}

#[test]
fn without_room_a_session_has_to_look_by_itself() {
    let mut waiting = Waiting::empty();
    for n in 0..WAITING as i32 {
        assert!(waiting.enter(n + 1, n, 10, group(Scope::All), 1));
    }
    assert!(!waiting.enter(5000, 5000, 10, group(Scope::All), 1));
    assert_eq!(waiting.rest_on(5000).until, 0);
}
