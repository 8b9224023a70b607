use super::*;
use crate::logic::histogram::BUCKETS;
use crate::logic::testing::Rng;

const MINUTE: Micros = 60_000_000;

/// Memory with a ring of so many bytes, as the server makes it.
struct Memory {
    head: Box<Head>,
    bytes: Vec<u8>,
}

impl Memory {
    fn open(&mut self) -> Recent<'_> {
        Recent {
            head: &mut self.head,
            bytes: &mut self.bytes,
        }
    }

    fn count(&mut self, whose: Whose, marks: &[Mark], minute: Micros) {
        self.open().count(whose, marks, minute * MINUTE, &mut 0);
    }

    fn minutes(&self, database: u32, roles: &[u32]) -> Minutes {
        self.minutes_since(Minute::MIN, database, roles)
    }

    fn minutes_since(&self, first: Minute, database: u32, roles: &[u32]) -> Minutes {
        let mut minutes = Minutes::default();
        let mut walk = Walk::since(first);
        loop {
            let is_last = walk.copy(&self.head.edges, &self.bytes);
            walk.each(|mut record| {
                if record.database == database {
                    let whose = record.whose();
                    if roles.contains(&whose.role) {
                        minutes.add_record(whose.queue, record);
                    }
                }
            });
            if is_last {
                break;
            }
        }
        let (minute, tallies) = self.head.open.of_database(database);
        for (whose, tally) in tallies.filter(|(whose, _)| roles.contains(&whose.role)) {
            minutes.add_tally(minute, whose.queue, tally);
        }
        minutes
    }

    /// How many jobs were completed in all minutes.
    fn completed(&self, database: u32) -> i64 {
        let minutes = self.minutes(database, &[1, 2]);
        minutes.0.values().map(|folded| folded.counts[0]).sum()
    }
}

/// A thread with room for the memory on its stack, where an unoptimized build makes it.
fn with_memory(bytes: usize, test: impl FnOnce(&mut Memory) + Send + 'static) {
    let run = move || {
        let head = Box::new(Head {
            begun: 0,
            open: Open::empty(),
            edges: Edges::empty(),
            handlers: Handlers::empty(),
        });
        let bytes = vec![0; bytes];
        test(&mut Memory { head, bytes });
    };
    let thread = std::thread::Builder::new().stack_size(128 << 20);
    thread.spawn(run).unwrap().join().unwrap();
}

fn of(queue: i32, role: u32) -> Whose {
    Whose {
        database: 5,
        queue,
        role,
    }
}

fn done(wait: Micros, run: Micros) -> Mark {
    Mark::new(Ending::Completed, wait, run)
}

fn near(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() / expected < 0.05)
}

#[test]
fn a_minute_is_the_same_open_and_closed() {
    with_memory(1 << 20, |memory| {
        let marks: Vec<Mark> = (1..=100).map(|n| done(n * 1000, n * 10_000)).collect();
        let ends = [
            Ending::Failed,
            Ending::Retried,
            Ending::Cancelled,
            Ending::Snoozed,
        ];
        memory.count(of(7, 1), &marks, 10);
        memory.count(of(7, 1), &ends.map(|end| Mark::new(end, 0, 0)), 10);
        memory
            .open()
            .count_ends(of(7, 1), Ending::Cancelled, 5, 10 * MINUTE);
        for _ in 0..2 {
            let minutes = memory.minutes(5, &[1]);
            let folded = &minutes.0[&(10, 7)];
            assert_eq!(folded.counts, [100, 1, 1, 6]);
            assert!(near(folded.wait_p95(), 95.0) && near(folded.run_p95(), 950.0));
            // The end of another queue in the next minute closes it.
            memory.count(of(8, 1), &marks, 11);
        }
        assert_eq!(memory.minutes(5, &[1]).0.len(), 2);
        assert!(memory.minutes(6, &[1]).0.is_empty());
    });
}

#[test]
fn roles_are_seen_apart_and_together() {
    with_memory(1 << 20, |memory| {
        for minute in [10, 11] {
            memory.count(of(7, 1), &[done(1, 1000); 10], minute);
            memory.count(of(7, 2), &[done(1, 9000); 90], minute);
        }
        for minute in [10, 11] {
            let alone = &memory.minutes(5, &[1]).0[&(minute, 7)];
            assert!(alone.counts[0] == 10 && near(alone.run_p95(), 1.0));
            let both = &memory.minutes(5, &[1, 2]).0[&(minute, 7)];
            assert!(both.counts[0] == 100 && near(both.run_p95(), 9.0));
        }
        assert!(memory.minutes(5, &[3]).0.is_empty());
    });
}

#[test]
fn queues_beyond_the_places_are_closed_early() {
    with_memory(1 << 20, |memory| {
        for round in 0..3 {
            for queue in 1..=(PLACES as i32 + 500) {
                memory.count(of(queue, 1), &[done(10, 10)], 10 + round / 2);
            }
        }
        let minutes = memory.minutes(5, &[1]);
        assert_eq!(minutes.0.len(), 2 * (PLACES + 500));
        assert_eq!(memory.completed(5), 3 * (PLACES as i64 + 500));
        assert_eq!(memory.head.reach(0).gave_way, 0);
    });
}

#[test]
fn many_more_queues_do_not_fill_the_ring() {
    with_memory(16 << 20, |memory| {
        memory.count(of(1, 2), &[done(10, 10)], 9);
        let ends = 100_000;
        for n in 0..ends {
            memory.count(of(n % 5000 + 1, 1), &[done(10, 10)], 10);
        }
        memory.count(of(1, 1), &[done(10, 10)], 11);
        let reach = memory.head.reach(11 * MINUTE);
        assert_eq!(reach.since, 11 * MINUTE);
        let minutes = memory.minutes(5, &[1]);
        let counted: i64 = minutes
            .0
            .iter()
            .filter(|((m, _), _)| *m == 10)
            .map(|(_, f)| f.counts[0])
            .sum();
        // Those that have a place keep it, and what found none is told.
        assert_eq!(counted as u64 + reach.gave_way, ends as u64);
        assert!(counted > 20_000 && memory.minutes(5, &[2]).0.len() == 1);
        // The next minute begins anew.
        for queue in 1..=3000 {
            memory.count(of(queue, 1), &[done(10, 10)], 12);
        }
        assert_eq!(memory.head.reach(12 * MINUTE), reach);
    });
}

#[test]
fn the_oldest_give_way_in_a_full_ring() {
    with_memory(2000, |memory| {
        let mut rng = Rng::new(1);
        for minute in 1..=1000 {
            let marks: Vec<Mark> = (0..10).map(|_| done(rng.range(1, 1 << 30), 5)).collect();
            memory.count(of(7, 1), &marks, minute);
        }
        let minutes = memory.minutes(5, &[1]);
        let kept: Vec<Minute> = minutes.0.keys().map(|(minute, _)| *minute).collect();
        let first = kept[0];
        assert!(kept.len() > 10 && kept.len() < 100);
        assert_eq!(kept, (first..=1000).collect::<Vec<_>>());
        assert!(minutes.0.values().all(|folded| folded.counts[0] == 10));
        let reach = memory.head.reach(1000 * MINUTE);
        assert_eq!(reach.since, Micros::from(first) * MINUTE);
        assert_eq!(reach.gave_way, first as u64 - 1);
    });
}

#[test]
fn a_record_longer_than_the_ring_is_left_out() {
    with_memory(20, |memory| {
        memory.count(of(7, 1), &[done(1, 1)], 1);
        memory.count(of(7, 1), &[done(1, 1)], 2);
        assert_eq!(memory.completed(5), 1);
    });
}

#[test]
fn the_longest_record_fits() {
    with_memory(1 << 20, |memory| {
        let marks: Vec<Mark> = (0..BUCKETS)
            .map(|bucket| histogram_value(bucket) as Micros)
            .map(|us| done(us, us))
            .collect();
        for _ in 0..70 {
            memory.count(of(i32::MIN, 1), &marks, 1);
        }
        memory
            .open()
            .count_ends(of(i32::MIN, 1), Ending::Failed, i64::MAX, MINUTE);
        let open = memory.minutes(5, &[1]).0[&(1, i32::MIN)].counts;
        memory.count(of(7, 1), &[], 2);
        let closed = memory.minutes(5, &[1]).0[&(1, i32::MIN)].counts;
        assert_eq!(open, closed);
        assert_eq!(closed[1], i64::from(u32::MAX));
    });
}

fn histogram_value(bucket: usize) -> f64 {
    crate::logic::histogram::value_of(bucket)
}

#[test]
fn a_day_is_kept() {
    with_memory(1 << 20, |memory| {
        for minute in 1..=3000 {
            memory.count(of(7, 1), &[done(10, 10)], minute);
        }
        let kept: Vec<_> = memory.minutes(5, &[1]).0.into_keys().collect();
        assert_eq!(kept.len(), DAY as usize);
        assert_eq!(kept[0].0, 3000 - DAY + 1);
        assert_eq!(memory.head.reach(3000 * MINUTE).gave_way, 0);
    });
}

#[test]
fn a_reader_begins_where_its_minutes_do() {
    with_memory(1 << 20, |memory| {
        for minute in 1..=2000 {
            memory.count(of(7, 1), &[done(10, 10)], minute);
        }
        let mut walk = Walk::since(1990);
        walk.copy(&memory.head.edges, &memory.bytes);
        let mut found = Vec::new();
        walk.each(|record| found.push(record.minute));
        // The last one is open.
        assert_eq!(found, (1990..2000).collect::<Vec<_>>());
        assert_eq!(memory.minutes_since(2001, 5, &[1]).0.len(), 1);
        // What came when the clock was ahead, and what is closed early, is found, too.
        for (minute, queues) in [(2100, 1), (1999, 1), (2100, 1), (2101, PLACES as i32 + 100)] {
            for queue in 1..=queues {
                memory.count(of(queue, 1), &[done(10, 10)], minute);
            }
        }
        memory.count(of(7, 1), &[done(10, 10)], 2102);
        let late = memory.minutes_since(2100, 5, &[1]);
        let sum = |minute| {
            let of_it = late.0.iter().filter(|((m, _), _)| *m == minute);
            of_it.map(|(_, folded)| folded.counts[0]).sum::<i64>()
        };
        assert_eq!([2100, 2101, 2102].map(sum), [2, PLACES as i64 + 100, 1]);
    });
}

#[test]
fn a_clock_that_is_set_back_loses_nothing() {
    with_memory(1 << 20, |memory| {
        for minute in [100, 99, 101, 40, 41, 100] {
            memory.count(of(7, 1), &[done(10, 10)], minute);
        }
        let minutes = memory.minutes(5, &[1]);
        let counts: Vec<_> = minutes
            .0
            .iter()
            .map(|(key, f)| (key.0, f.counts[0]))
            .collect();
        assert_eq!(counts, [(40, 1), (41, 1), (100, 3), (101, 1)]);
    });
}

#[test]
fn a_database_is_forgotten_and_no_other() {
    with_memory(1 << 20, |memory| {
        let other = Whose {
            database: 6,
            ..of(7, 1)
        };
        for minute in 1..=1400 {
            for queue in 1..=20 {
                memory.count(of(queue, 1), &[done(10, 10)], minute);
            }
            memory.count(other, &[done(10, 10)], minute);
        }
        memory.open().forget(5);
        let (mut place, mut steps) = (Some(0), 0);
        while let Some(from) = place {
            place = memory.open().forget_some(5, from);
            steps += 1;
        }
        assert!(steps > 5);
        assert_eq!((memory.completed(5), memory.completed(6)), (0, 1400));
        memory.count(of(7, 1), &[done(10, 10)], 1400);
        memory.count(other, &[done(10, 10)], 1401);
        assert_eq!((memory.completed(5), memory.completed(6)), (1, 1401));
    });
}

#[test]
fn a_reader_keeps_up_with_what_gives_way() {
    with_memory(200_000, |memory| {
        let mut rng = Rng::new(2);
        let mut fill = |memory: &mut Memory, from: Micros, until: Micros| {
            for minute in from..until {
                for queue in 1..=100 {
                    let marks = [done(rng.range(1, 1000), 5), done(rng.range(1, 1 << 30), 5)];
                    memory.count(of(queue, 1), &marks, minute);
                }
            }
        };
        fill(memory, 1, 100);
        let mut walk = Walk::since(0);
        let (mut seen, mut minute) = (0, 100);
        loop {
            let is_last = walk.copy(&memory.head.edges, &memory.bytes);
            walk.each(|mut record| {
                let whose = record.whose();
                assert!(whose.database == 5 && (1..=100).contains(&whose.queue));
                assert_eq!(record.number(), 2);
                seen += 1;
            });
            if is_last {
                break;
            }
            if minute < 130 {
                fill(memory, minute, minute + 10);
                minute += 10;
            }
        }
        assert!(seen > 2000);
    });
}

fn handler(name: &str) -> Called {
    Called::new(Runs::Handler, name.as_bytes(), |name, most| {
        name.len().min(most)
    })
}

#[test]
fn handlers_are_counted_by_role() {
    with_memory(100, |memory| {
        let handlers = &mut memory.head.handlers;
        let (a, b) = (handler("a()"), handler("b()"));
        let failed = Mark::new(Ending::Retried, 0, 2000);
        let snoozed = Mark::new(Ending::Snoozed, 0, 2000);
        handlers.count((5, 1), &a, &[done(0, 1000), failed, snoozed], 10, &mut 0);
        handlers.count((5, 2), &a, &[done(0, 1000)], 11, &mut 0);
        handlers.count((5, 1), &b, &[snoozed], 12, &mut 0);
        handlers.count_ends((5, 1), &a, (Ending::Failed, 2), 13);
        handlers.count_ends((5, 1), &b, (Ending::Cancelled, 2), 14);
        let found: Vec<(usize, u32)> = handlers.of_database(5).collect();
        assert_eq!(found, [(0, 1), (1, 2)]);
        let mut sum = *handlers.get(0, 5, 1).unwrap();
        assert_eq!((sum.calls, sum.failures, sum.called_at), (4, 3, 13));
        assert_eq!(sum.name(), Some(&b"a()"[..]));
        assert!(handlers.get(0, 5, 2).is_none() && handlers.get(0, 6, 1).is_none());
        sum.merge(handlers.get(1, 5, 2).unwrap());
        assert_eq!((sum.calls, sum.failures), (5, 3));
        assert!((sum.run.summary().unwrap().mean - 4.0 / 3.0).abs() < 1e-9);
        handlers.forget(5);
        assert_eq!(handlers.of_database(5).count(), 0);
    });
}

#[test]
fn handlers_called_longest_ago_give_way() {
    with_memory(100, |memory| {
        let handlers = &mut memory.head.handlers;
        let first = handler("first()");
        for n in 0..(2 * HANDLERS) {
            handlers.count((5, 1), &first, &[done(0, 1)], 10, &mut 0);
            handlers.count(
                (5, 1),
                &handler(&format!("f{n}()")),
                &[done(0, 1)],
                10,
                &mut 0,
            );
        }
        assert_eq!(handlers.of_database(5).count(), HANDLERS);
        assert_eq!(handlers.gave_way(), HANDLERS as u64 + 1);
        let calls = handlers.get(0, 5, 1).map(|entry| entry.calls);
        assert_eq!(calls, Some(2 * HANDLERS as i64));
        // What was forgotten is taken first, and counts as nothing that gave way.
        handlers.count((6, 1), &first, &[done(0, 1)], 10, &mut 0);
        handlers.forget(6);
        handlers.count((7, 1), &first, &[done(0, 1)], 10, &mut 0);
        assert_eq!(handlers.gave_way(), HANDLERS as u64 + 2);
    });
}

#[test]
fn the_memory_is_bounded() {
    const { assert!(size_of::<Head>() < 9 << 20) };
}
