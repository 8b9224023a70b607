use std::collections::BTreeMap;

use super::table::{Entry, Head, Key, QUEUES};
use super::{Buckets, Limit, Micros, describe};
use crate::logic::testing::Rng;

struct Memory {
    head: Head,
    entries: Vec<Entry>,
}

impl Memory {
    fn with(keys: usize) -> Memory {
        Memory {
            head: Head::default(),
            entries: vec![Entry::free(); QUEUES + keys],
        }
    }

    fn open(&mut self) -> Buckets<'_> {
        Buckets {
            head: &mut self.head,
            entries: &mut self.entries,
        }
    }

    fn start(&mut self, key: &Key, limit: &Limit, now: Micros, wanted: usize) -> usize {
        self.open().start(key, limit, (now, now), wanted).count
    }
}

fn queue(number: i32) -> Key {
    Key {
        database: 5,
        queue: number,
        owner: 0,
        is_keyed: false,
        hash: 0,
    }
}

fn key(hash: u64) -> Key {
    Key {
        owner: 10,
        is_keyed: true,
        hash,
        ..queue(1)
    }
}

const SECOND: Micros = 1_000_000;
const START: Micros = 800_000_000 * SECOND;

/// No window of a period has more than `rate + burst - 1` of these.
fn check_windows(starts: &[Micros], rate: i32, period: Micros, burst: i32) {
    let mut sorted = starts.to_vec();
    sorted.sort_unstable();
    let most = usize::try_from(rate + burst - 1).unwrap();
    for (first, beyond) in sorted.iter().zip(sorted.iter().skip(most)) {
        assert!(
            beyond - first >= period,
            "{most} and one more within {} of {period}",
            beyond - first
        );
    }
}

#[test]
fn spacing_is_rounded_up() {
    assert_eq!(Limit::new(10, SECOND, 1).spacing, 100_000);
    assert_eq!(Limit::new(3, SECOND, 1).spacing, 333_334);
    assert_eq!(Limit::new(i32::MAX, 1_000, 5).spacing, 1);
    assert_eq!(Limit::new(3, SECOND, 3).slack, 666_668);
}

#[test]
fn starts_are_spaced_and_a_rest_is_made_up_for() {
    let limit = Limit::new(10, SECOND, 5);
    let mut memory = Memory::with(0);
    // The server has just started: a start may have happened a moment ago.
    assert_eq!(memory.start(&queue(1), &limit, START, 9), 0);
    assert_eq!(memory.start(&queue(1), &limit, START + 100_000, 9), 1);
    assert_eq!(memory.start(&queue(1), &limit, START + 150_000, 9), 0);
    let rested = START + 10 * SECOND;
    assert_eq!(memory.start(&queue(1), &limit, rested, 9), 5);
    assert_eq!(memory.start(&queue(1), &limit, rested + 99_999, 9), 0);
    assert_eq!(memory.start(&queue(1), &limit, rested + 100_000, 9), 1);
    // One that comes later is there from the start as if it had always been.
    assert_eq!(memory.start(&queue(2), &limit, rested, 9), 5);
}

#[test]
fn what_came_to_nothing_is_given_back() {
    let limit = Limit::new(10, SECOND, 5);
    let (mut memory, at) = (Memory::with(0), START + 10 * SECOND);
    memory.open().begin(START);
    let started = memory.open().start(&queue(1), &limit, (at, at), 5);
    memory.open().give_back(&queue(1), 2, started.next);
    assert_eq!(memory.start(&queue(1), &limit, at, 9), 2);
    // Not if somebody has asked since.
    memory.open().give_back(&queue(1), 2, started.next - 1);
    assert_eq!(memory.start(&queue(1), &limit, at, 9), 0);
}

#[test]
fn a_clock_that_is_set_back_costs_one_spacing() {
    let limit = Limit::new(10, SECOND, 1);
    let mut memory = Memory::with(10);
    let at = START + 3600 * SECOND;
    assert_eq!(memory.start(&queue(1), &limit, at, 1), 0);
    assert_eq!(memory.start(&queue(1), &limit, at + SECOND, 1), 1);
    // By little: it waits until the clock is where it was.
    let state = memory.open().peek(&queue(1), &limit, at + SECOND / 2);
    assert_eq!(state.next, at + SECOND + 100_000);
    let state = memory.open().peek(&queue(1), &limit, START);
    assert_eq!(state.next, START + 100_000);
    assert_eq!(memory.start(&queue(1), &limit, START + 100_000, 1), 1);
    // Also of a key that was never seen.
    let state = memory.open().peek(&key(1), &limit, START);
    assert_eq!(state.next, START + 100_000);
    assert_eq!(memory.start(&key(1), &limit, START + 100_000, 1), 1);
}

#[test]
fn other_settings_hold_at_once() {
    let (slow, fast) = (Limit::new(1, 3600 * SECOND, 1), Limit::new(10, SECOND, 3));
    let (mut memory, at) = (Memory::with(0), START + 7200 * SECOND);
    memory.open().begin(START);
    assert_eq!(memory.start(&queue(1), &slow, at, 1), 1);
    assert_eq!(memory.start(&queue(1), &fast, at + 99_999, 1), 0);
    assert_eq!(memory.start(&queue(1), &fast, at + 100_000, 1), 1);
    let state = memory.open().peek(&queue(1), &slow, at + 200_000);
    assert_eq!(state.next, at + 100_000 + 3600 * SECOND);
}

#[test]
fn a_thousand_new_keys_start_at_once() {
    let limit = Limit::new(1, SECOND, 1);
    let mut memory = Memory::with(1000);
    memory.open().begin(START);
    let at = START + SECOND;
    for hash in 0..1000 {
        assert_eq!(memory.start(&key(hash), &limit, at, 2), 1);
    }
    assert!(memory.open().is_any_waiting(5, 1, at));
    assert!(!memory.open().is_any_waiting(5, 2, at));
    // New keys wait for one that has rested; queues have room of their own.
    let started = memory.open().start(&key(1000), &limit, (at, at), 1);
    assert_eq!((started.count, started.next), (0, at + SECOND));
    assert!(memory.open().peek(&key(1000), &limit, at + 1).no_room);
    assert_eq!(memory.start(&queue(1), &limit, at, 1), 1);
    assert_eq!(memory.start(&key(1000), &limit, at + SECOND, 1), 1);
    assert!(!memory.open().is_any_waiting(5, 1, at + 2 * SECOND));
}

#[test]
fn a_key_that_was_forgotten_does_not_start_before_it_had_rested() {
    let limit = Limit::new(1, SECOND, 1);
    let mut memory = Memory::with(2);
    memory.open().begin(START);
    let (at, rested) = (START + SECOND, START + 2 * SECOND);
    assert_eq!(memory.start(&key(1), &limit, at, 1), 1);
    assert_eq!(memory.start(&key(2), &limit, at, 1), 1);
    assert_eq!(memory.start(&key(3), &limit, rested, 1), 1);
    let mut before = |at| {
        let mut buckets = memory.open();
        buckets.start(&key(1), &limit, (rested + 1, at), 1).count
    };
    assert_eq!((before(rested - 5), before(rested)), (0, 1));
}

#[test]
fn more_queues_than_room_wait() {
    let limit = Limit::new(1, SECOND, 1);
    let mut memory = Memory::with(0);
    memory.open().begin(START);
    let at = START + SECOND;
    for number in 0..QUEUES as i32 {
        assert_eq!(memory.start(&queue(number), &limit, at, 1), 1);
    }
    assert_eq!(memory.start(&queue(-1), &limit, at, 1), 0);
    assert_eq!(memory.start(&queue(-1), &limit, at + SECOND, 1), 1);
    assert_eq!(memory.start(&queue(0), &limit, at + SECOND - 1, 1), 0);
}

#[test]
fn extreme_settings_neither_stop_nor_open_all() {
    let thousand_years = super::super::limits::MAX_INTERVAL;
    let limit = Limit::new(1, thousand_years, i32::MAX);
    let (mut memory, at) = (Memory::with(0), START);
    memory.open().begin(START - thousand_years);
    let count = memory.start(&queue(1), &limit, at, usize::MAX);
    assert!(count >= 1, "{count}");
    let limit = Limit::new(i32::MAX, 1_000, 1);
    assert_eq!(memory.start(&queue(2), &limit, at, usize::MAX), 1);
    assert_eq!(memory.start(&queue(2), &limit, at, usize::MAX), 0);
    assert_eq!(memory.start(&queue(2), &limit, at + 1, usize::MAX), 1);
}

/// Processes that read the clock and ask in any order, keys that are forgotten, crashes.
#[test]
fn no_history_has_too_many_starts_in_a_window() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let rate = rng.range(1, 12) as i32;
        let period = rng.range(1_000, 2_000_000);
        let burst = rng.range(1, 8) as i32;
        let limit = Limit::new(rate, period, burst);
        let room = rng.range(1, 12) as usize;
        let keys = rng.range(1, 20) as u64;
        let mut memory = Memory::with(room);
        let mut starts: BTreeMap<u64, Vec<Micros>> = BTreeMap::new();
        let (mut now, mut began) = (START, START);
        for _ in 0..1_500 {
            now += match rng.range(0, 9) {
                0 => rng.range(0, period * Micros::from(burst)),
                1..=4 => rng.range(0, limit.spacing),
                _ => rng.range(0, 20),
            };
            if rng.range(0, 100) == 0 {
                memory = Memory::with(room);
                began = now;
            }
            let hash = rng.next() % keys;
            let of = if hash == 0 { queue(1) } else { key(hash) };
            let late = rng.range(0, 30).min(now - began);
            let (at, wanted) = (now - late, rng.range(0, 10) as usize);
            let started = memory.open().start(&of, &limit, (now, at), wanted);
            assert!(started.count <= wanted && started.at == at);
            if started.count == 0 && wanted > 0 && started.next > now {
                // Often just at the time that was said.
                now = now.max(started.next - rng.range(-1, 1).max(0));
            }
            let mut count = started.count;
            if rng.range(0, 3) == 0 && count > 0 {
                let back = rng.range(1, count as i64) as usize;
                memory.open().give_back(&of, back, started.next);
                count -= back;
            }
            let of_key = starts.entry(hash).or_default();
            of_key.extend(std::iter::repeat_n(at, count));
        }
        for of_key in starts.values() {
            check_windows(of_key, rate, period, burst);
        }
    }
}

#[test]
fn whoever_comes_in_time_is_never_slower_than_the_rate() {
    let limit = Limit::new(10, SECOND, 1);
    let mut memory = Memory::with(0);
    memory.open().begin(START);
    let (mut at, mut count) = (START, 0);
    while at < START + 20 * SECOND {
        let state = memory.open().peek(&queue(1), &limit, at);
        if state.count > 0 {
            count += memory.start(&queue(1), &limit, at, 1);
        } else {
            at = state.next;
        }
    }
    assert_eq!(count, 199);
}

#[test]
fn rates_are_said_in_words() {
    assert_eq!(describe(10, SECOND), "10 per 1 s");
    assert_eq!(describe(3, 1_500_000), "3 per 1500 ms");
    assert_eq!(describe(100, 5 * 60 * SECOND), "100 per 5 min");
    assert_eq!(describe(1, 86_400 * SECOND), "1 per 1 d");
    assert_eq!(describe(1, 1_001), "1 per 1001 us");
}
