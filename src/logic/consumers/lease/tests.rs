//! Tests of leases.

use super::super::testing::Memory;
use super::{Channel, JobKey, Lease, LeaseId, Loss, Published, Stage, Undone};
use crate::logic::testing::Rng;

const CHANNEL: Channel = Channel {
    database: 5,
    queue: 7,
};

fn lease(job: i64, token: i64) -> Lease {
    Lease {
        token,
        key: JobKey { table: 9, job },
        channel: CHANNEL,
        pid: 100,
        stage: Stage::Received,
        ..Lease::NONE
    }
}

fn published(memory: &mut Memory, job: i64, token: i64) -> LeaseId {
    match memory.open().publish(&lease(job, token)) {
        Published::Yes(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_has_one_lease_at_a_time() {
    let mut memory = Memory::with(4);
    let id = published(&mut memory, 1, 11);
    assert_eq!(memory.open().publish(&lease(1, 12)), Published::Taken);
    assert!(memory.open().free(id).is_some());
    published(&mut memory, 1, 13);
}

#[test]
fn one_more_than_there_is_room_for_is_refused() {
    let mut memory = Memory::with(2);
    published(&mut memory, 1, 11);
    let second = published(&mut memory, 2, 12);
    assert_eq!(memory.open().publish(&lease(3, 13)), Published::Full);
    memory.open().free(second);
    published(&mut memory, 3, 13);
}

#[test]
fn a_wrong_token_ends_nothing() {
    let mut memory = Memory::with(4);
    let id = published(&mut memory, 1, 11);
    let key = JobKey { table: 9, job: 1 };
    assert!(memory.open().begin_end(key, 12, 100).is_none());
    assert!(memory.open().begin_end(key, 11, 100).is_some());
    assert!(memory.open().begin_end(key, 11, 101).is_none());
    assert_eq!(memory.open().undo_end(id, 100), Undone::Held);
    assert!(memory.open().begin_end(key, 11, 101).is_some());
}

#[test]
fn an_entry_of_another_lease_is_left_alone() {
    let mut memory = Memory::with(1);
    let old = published(&mut memory, 1, 11);
    memory.open().free(old);
    let new = published(&mut memory, 1, 12);
    assert!(memory.open().free(old).is_none());
    assert!(!memory.open().lose(old, Loss::Disconnected));
    assert!(memory.open().free(new).is_some());
}

#[test]
fn what_is_being_ended_does_not_time_out() {
    let mut memory = Memory::with(4);
    let new = Lease {
        until: 50,
        ..lease(1, 11)
    };
    let Published::Yes(id) = memory.open().publish(&new) else {
        panic!()
    };
    memory.open().hold(id);
    assert_eq!(memory.open().time_out(5, 40), (false, 50));
    memory.open().begin_end(new.key, 11, 1).unwrap();
    assert_eq!(memory.open().time_out(5, 60), (false, 0));
    assert_eq!(memory.open().undo_end(id, 1), Undone::Held);
    assert_eq!(memory.open().time_out(6, 60), (false, 0));
    assert_eq!(memory.open().time_out(5, 60), (true, 0));
    assert!(memory.open().begin_end(new.key, 11, 1).is_none());
}

#[test]
fn a_lease_lost_while_it_is_being_ended_is_charged_if_the_end_fails() {
    let mut memory = Memory::with(4);
    let id = published(&mut memory, 1, 11);
    memory.open().hold(id);
    let key = JobKey { table: 9, job: 1 };
    memory.open().begin_end(key, 11, 200).unwrap();
    assert!(!memory.open().lose_with_session(id, Loss::Disconnected, 100));
    assert_eq!(memory.open().undo_end(id, 200), Undone::Lost);
    // Its own transaction goes with the session.
    let other = published(&mut memory, 2, 12);
    memory
        .open()
        .begin_end(JobKey { table: 9, job: 2 }, 12, 100);
    assert!(
        memory
            .open()
            .lose_with_session(other, Loss::Terminated, 100)
    );
}

#[test]
fn the_third_rollback_in_a_row_is_charged() {
    let mut memory = Memory::with(4);
    for round in 0..2 {
        for token in 0..2 {
            let id = published(&mut memory, 1, 11 + round * 10 + token);
            assert!(!memory.open().give_back(id));
        }
        let id = published(&mut memory, 1, 20 + round * 10);
        if round == 0 {
            // A receipt that commits begins a new row.
            memory.open().hold(id);
            memory.open().free(id);
        } else {
            assert!(memory.open().give_back(id));
            assert_eq!(memory.open().get(id).unwrap().loss, Loss::RolledBack);
        }
    }
}

#[test]
fn leases_are_found_counted_and_freed_in_any_order() {
    let mut memory = Memory::with(64);
    let mut random = Rng::new(7);
    let mut out: Vec<(i64, LeaseId)> = Vec::new();
    for round in 0..20_000_i64 {
        let job = random.range(1, 200);
        match out.iter().position(|(known, _)| *known == job) {
            Some(index) if random.range(0, 1) == 0 => {
                let (_, id) = out.swap_remove(index);
                assert_eq!(memory.open().free(id).unwrap().key.job, job);
            }
            Some(_) => {
                assert_eq!(
                    memory.open().publish(&lease(job, round + 1)),
                    Published::Taken
                );
            }
            None if out.len() == 64 => {
                assert_eq!(
                    memory.open().publish(&lease(job, round + 1)),
                    Published::Full
                );
            }
            None => out.push((job, published(&mut memory, job, round + 1))),
        }
        assert_eq!(memory.open().head.out, out.len());
    }
    assert_eq!(memory.open().count(CHANNEL), out.len());
    for (job, id) in out {
        let key = JobKey { table: 9, job };
        assert_eq!(memory.open().find(key).unwrap().0, id);
    }
}

#[test]
fn what_was_lost_where_nobody_serves_makes_room() {
    let mut memory = Memory::with(2);
    let id = published(&mut memory, 1, 11);
    published(&mut memory, 2, 12);
    memory.open().lose(id, Loss::Disconnected);
    memory.open().drop_lost(|database| database == 5);
    assert_eq!(memory.open().head.out, 2);
    memory.open().drop_lost(|_| false);
    assert_eq!(memory.open().head.out, 1);
}
