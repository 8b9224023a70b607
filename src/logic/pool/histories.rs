//! Random histories of the pool, and the cases that users met.

use super::world::{MS, SECOND, World};
use super::{DATABASES, Kind, Known, Lane, LeftOut, Micros, Oid, Phase, Refused, Rules, State};
use crate::logic::testing::Rng;

fn rules(most: usize, per_role: usize) -> Rules {
    Rules {
        most,
        per_role,
        nap: 0,
        completed: 1,
    }
}

const HOUR: Micros = 3_600 * SECOND;
const ALICE: Oid = 10;
const BOB: Oid = 11;
const CAROL: Oid = 12;

/// Jobs of random roles in random databases come at random times, due now or later.
fn live(rng: &mut Rng) -> World {
    let databases: Vec<Oid> = (1..=rng.range(1, 6) as Oid).collect();
    let capacity = rng.range(1, 10) as usize;
    let settings = rules(rng.range(1, 4) as usize, rng.range(0, 2) as usize);
    let mut world = World::new(&databases, settings, capacity);
    world.idle_timeout = *rng.pick(&[0, 50 * MS, SECOND, 60 * SECOND]);
    let roles = rng.range(1, 5);
    for _ in 0..rng.range(1, 60) {
        let (database, role) = (*rng.pick(&databases), 10 + rng.range(0, roles) as Oid);
        let delay = *rng.pick(&[0, 0, 0, 100 * MS, 2 * SECOND]);
        let length = *rng.pick(&[MS, 5 * MS, 30 * MS, 400 * MS, 2 * SECOND]);
        world.enqueue(database, role, delay, length);
        if !rng.next().is_multiple_of(3) {
            let pause = *rng.pick(&[MS, 30 * MS, SECOND]);
            world.run_until(world.now + pause);
        }
    }
    world
}

#[test]
fn every_job_of_a_random_history_runs() {
    for seed in 0..2_000 {
        let mut world = live(&mut Rng::new(seed));
        world.run_until(world.now + 600 * SECOND);
        assert_eq!(world.waiting, 0, "seed {seed}: jobs wait that nobody runs");
    }
}

#[test]
fn no_role_holds_all_places() {
    for seed in 0..500 {
        let rng = &mut Rng::new(seed);
        let most = rng.range(1, 6) as usize;
        let databases: Vec<Oid> = (1..=rng.range(1, 4) as Oid).collect();
        let capacity = most + 1 + databases.len() + rng.range(0, 3) as usize;
        let mut world = World::new(&databases, rules(most, 0), capacity);
        for _ in 0..most + rng.range(0, 5) as usize {
            world.enqueue(*rng.pick(&databases), ALICE, 0, HOUR);
            world.run_until(world.now + rng.range(0, 300) * MS);
        }
        world.run_until(world.now + 2 * SECOND);
        assert_eq!(world.count(Kind::Worker), most, "the others' place is kept");
        let job = world.enqueue(*rng.pick(&databases), BOB, 0, rng.range(1, 5) * SECOND);
        let asked = world.now;
        world.run_until(world.now + 5 * SECOND);
        let started = world.started.get(&job).map(|at| at - asked);
        assert!(
            started.is_some_and(|took| took < SECOND),
            "seed {seed}: {started:?}"
        );
    }
}

#[test]
fn the_place_beyond_goes_from_role_to_role() {
    let mut world = World::new(&[1], rules(2, 0), 10);
    for _ in 0..4 {
        world.enqueue(1, ALICE, 0, HOUR);
    }
    world.run_until(world.now + SECOND);
    for round in 0..20 {
        let role = [BOB, CAROL][round % 2];
        let jobs: Vec<i64> = (0..200)
            .map(|_| world.enqueue(1, role, 0, 10 * MS))
            .collect();
        let other = [CAROL, BOB][round % 2];
        world.run_until(world.now + 300 * MS);
        let guest = world.enqueue(1, other, 0, 10 * MS);
        let asked = world.now;
        world.run_until(world.now + 5 * SECOND);
        let took = world.started.get(&guest).map(|at| at - asked);
        assert!(
            took.is_some_and(|took| took < SECOND),
            "round {round}: {took:?}"
        );
        assert!(
            jobs.iter().all(|job| world.ended.contains(job)),
            "round {round}"
        );
    }
}

#[test]
fn one_role_alone_has_all_regular_places_and_no_more() {
    let mut world = World::new(&[1], rules(4, 0), 10);
    for _ in 0..8 {
        world.enqueue(1, ALICE, 0, HOUR);
    }
    world.run_until(world.now + 10 * SECOND);
    assert_eq!(world.workers_of(ALICE), 4);
}

#[test]
fn a_role_takes_turns_with_itself_at_its_cap() {
    let mut world = World::new(&[1, 2], rules(4, 1), 10);
    for _ in 0..1_000 {
        world.enqueue(1, ALICE, 0, 10 * MS);
    }
    world.run_until(world.now + SECOND);
    let job = world.enqueue(2, ALICE, 0, 10 * MS);
    let asked = world.now;
    world.run_until(world.now + 5 * SECOND);
    let took = world.started.get(&job).map(|at| at - asked);
    assert!(took.is_some_and(|took| took < SECOND), "{took:?}");
    assert_eq!(world.workers_of(ALICE), 1);
}

#[test]
fn a_role_at_its_cap_gives_up_an_idle_worker_elsewhere() {
    let mut world = World::new(&[1, 2], rules(4, 2), 10);
    world.enqueue(2, ALICE, 0, MS);
    world.enqueue(1, ALICE, 0, HOUR);
    world.run_until(world.now + SECOND);
    let job = world.enqueue(1, ALICE, 0, MS);
    world.run_until(world.now + SECOND);
    assert!(world.ended.contains(&job));
}

#[test]
fn a_lowered_cap_takes_idle_workers_first_and_long_jobs_last() {
    let mut world = World::new(&[1], rules(4, 0), 10);
    for length in [HOUR, 2 * SECOND, 2 * SECOND] {
        world.enqueue(1, ALICE, 0, length);
    }
    world.run_until(world.now + SECOND);
    world.run_until(world.now + 5 * SECOND);
    let workers = world.workers_of(ALICE);
    assert!(workers >= 3);
    let mut next = Micros::MAX;
    let lowered = rules(4, 1);
    let leaving: Vec<i32> = std::iter::from_fn(|| {
        world
            .state
            .decide(world.now, &lowered, &mut next)
            .map(|step| match step {
                super::Step::Dismiss(procno) => procno,
                other => panic!("{other:?}"),
            })
    })
    .collect();
    assert_eq!(leaving.len(), workers - 1);
    let busy = world
        .state
        .slots
        .iter()
        .filter(|s| s.phase == Phase::Running && s.kind == Kind::Worker);
    assert!(
        busy.into_iter().all(|slot| !slot.leaves()),
        "the one at work stays"
    );
}

/// The default server: 8 processes, of which the server's own launcher of logical replication and
/// our launcher take two; six databases with keepers.
#[test]
fn keepers_give_way_to_work() {
    for seed in 0..300 {
        let rng = &mut Rng::new(seed);
        let databases: Vec<Oid> = (1..=6).collect();
        let mut world = World::new(&databases, rules(4, 0), 6);
        world.enqueue(1, ALICE, HOUR, MS);
        world.run_until(world.now + SECOND);
        assert_eq!(world.count(Kind::Keeper), 6);
        for _ in 0..20 {
            let database = *rng.pick(&databases);
            let delay = *rng.pick(&[0, 0, SECOND]);
            let length = *rng.pick(&[MS, 100 * MS, SECOND]);
            let job = world.enqueue(database, 10 + rng.range(0, 3) as Oid, delay, length);
            let due = world.now + delay;
            world.run_until(due + 5 * SECOND);
            let took = world.started.get(&job).map(|at| at - due);
            assert!(
                took.is_some_and(|took| took < SECOND),
                "seed {seed}: {took:?}"
            );
        }
        assert!(world.count(Kind::Keeper) > 0);
    }
}

#[test]
fn long_jobs_leave_a_place_for_keepers_in_turn() {
    let databases: Vec<Oid> = (1..=6).collect();
    let mut world = World::new(&databases, rules(4, 0), 6);
    for database in 1..=4 {
        world.enqueue(database, ALICE, 0, HOUR);
    }
    world.run_until(world.now + 3 * SECOND);
    assert_eq!(world.count(Kind::Worker), 4);
    // Each is noticed by its database's keeper only, and each needs a place.
    let jobs: Vec<(i64, Micros)> = (1..=40)
        .map(|i| {
            let delay = i * 500 * MS;
            let database = (i % 6 + 1) as Oid;
            (
                world.enqueue(database, BOB, delay, 50 * MS),
                world.now + delay,
            )
        })
        .collect();
    world.run_until(world.now + 60 * SECOND);
    for (job, due) in jobs {
        let took = world.started.get(&job).map(|at| at - due);
        assert!(
            took.is_some_and(|took| took < 5 * SECOND),
            "job {job}: {took:?}"
        );
    }
}

#[test]
fn one_place_serves_keeper_and_worker_in_turn() {
    let mut world = World::new(&[1], rules(4, 0), 1);
    let jobs: Vec<i64> = (0..20)
        .map(|i| {
            let job = world.enqueue(1, 10 + i % 3, Micros::from(i % 4) * 300 * MS, 5 * MS);
            world.run_until(world.now + 200 * MS);
            job
        })
        .collect();
    world.run_until(world.now + 30 * SECOND);
    assert!(jobs.iter().all(|job| world.ended.contains(job)));
}

#[test]
fn waiting_for_a_slot_is_known() {
    let mut world = World::new(&[1], rules(4, 0), 2);
    world.enqueue(1, ALICE, 0, HOUR);
    world.run_until(world.now + SECOND);
    assert!(!world.state.waits_for_slot(0, 0, world.now));
    world.enqueue(1, BOB, 0, MS);
    world.run_until(world.now + 3 * SECOND);
    assert!(world.state.waits_for_slot(0, 0, world.now));
    assert!(world.state.waits_for_slot(1, BOB, world.now));
    assert!(
        !world.state.waits_for_slot(1, ALICE, world.now)
            && !world.state.waits_for_slot(2, 0, world.now)
    );
    world.capacity = 3;
    world.run_until(world.now + 3 * SECOND);
    assert!(!world.state.waits_for_slot(0, 0, world.now));
}

/// What keepers find, at once, in all databases that one is wanted for.
fn keepers_find(state: &mut State, now: Micros, has_it: impl Fn(Oid) -> bool) {
    for entry in state.databases.iter_mut().filter(|entry| entry.oid != 0) {
        if entry.known == Known::Absent && !entry.look && !entry.probe {
            continue;
        }
        (entry.look, entry.probe) = (false, false);
        entry.known = if has_it(entry.oid) {
            Known::Present
        } else {
            Known::Absent
        };
        (entry.absent_at, entry.absent_seen) = (now, 1);
    }
}

fn is_served(state: &State, oid: Oid) -> bool {
    let mut entries = state.databases.iter();
    entries.any(|entry| entry.oid == oid && entry.known == Known::Present)
}

#[test]
fn empty_databases_give_their_places_to_those_that_ask() {
    for seed in 0..300 {
        let rng = &mut Rng::new(seed);
        let wanted: Vec<Oid> = (1..=rng.range(65, 250) as Oid).collect();
        let mut state = State::empty();
        let mut out: Vec<LeftOut> = Vec::with_capacity(wanted.len());
        let mut with: Vec<Oid> = Vec::new();
        state.serve(&wanted, &mut out).is_awake();
        for round in 1..80 {
            let now = round * SECOND;
            for _ in 0..4 {
                keepers_find(&mut state, now, |oid| with.contains(&oid));
                assert_eq!(state.give_places(&mut out), 0);
            }
            assert!(
                out.iter().all(|left| left.absent_at != 0),
                "each was looked at"
            );
            let known = state.databases.iter().filter(|e| e.oid != 0).count() + out.len();
            assert_eq!(known, wanted.len(), "each has an entry or is left out");
            let asker = *rng.pick(&wanted);
            if with.len() < DATABASES && !with.contains(&asker) {
                with.push(asker);
                // The launcher, which looks next.
                match rng.next() % 2 {
                    0 => state.ask_look(asker).is_awake(),
                    _ => state.demand(asker, ALICE, now, 0).is_awake(),
                }
                // The launcher's nap: jobs came to an entry that is taken to be empty.
                state.probe(now, 1, HOUR, &mut out);
                state.give_places(&mut out);
                keepers_find(&mut state, now, |oid| with.contains(&oid));
                assert!(is_served(&state, asker), "seed {seed}, round {round}");
            }
            assert!(
                with.iter().all(|oid| is_served(&state, *oid)),
                "none is evicted"
            );
        }
    }
}

#[test]
fn databases_that_nobody_tells_of_are_looked_at_in_turn() {
    let wanted: Vec<Oid> = (1..=150).collect();
    let mut state = State::empty();
    let mut out: Vec<LeftOut> = Vec::with_capacity(wanted.len());
    state.serve(&wanted, &mut out).is_awake();
    let mut found = Vec::new();
    for nap in 1..400 {
        let now = nap * SECOND;
        keepers_find(&mut state, now, |oid| oid == 149);
        state.give_places(&mut out);
        if nap == 50 {
            // From here on it has the extension, and so has nobody else.
            found.clear();
        }
        keepers_find(&mut state, now, |oid| oid == 149 && nap > 50);
        found.extend((nap > 50 && is_served(&state, 149)).then_some(nap));
        // Each nap the server has changed.
        state.probe(now, 1 + nap as u64, 10 * SECOND, &mut out);
    }
    assert!(
        found.first().is_some_and(|nap| *nap < 50 + 160),
        "{:?}",
        found.first()
    );
}

#[test]
fn more_databases_with_the_extension_than_places_are_counted() {
    let wanted: Vec<Oid> = (1..=70).collect();
    let mut state = State::empty();
    let mut out: Vec<LeftOut> = Vec::with_capacity(wanted.len());
    state.serve(&wanted, &mut out).is_awake();
    keepers_find(&mut state, SECOND, |_| true);
    assert_eq!(state.give_places(&mut out), 6);
    let fewer: Vec<Oid> = (4..=70).collect();
    state.serve(&fewer, &mut out).is_awake();
    keepers_find(&mut state, SECOND, |_| true);
    assert_eq!(state.give_places(&mut out), 3);
}

#[test]
fn no_role_launches_all_dynamic_workers() {
    let mut state = State::empty();
    let launch = |state: &mut State, role: Oid, job: i64| state.take_launch(1, role, job, 4, 1);
    for job in 1..=4 {
        assert!(launch(&mut state, ALICE, job).is_ok());
    }
    assert!(launch(&mut state, ALICE, 5) == Err(Refused::Full));
    assert!(launch(&mut state, BOB, 4) == Err(Refused::Running));
    assert!(launch(&mut state, BOB, 6).is_ok());
    assert!(launch(&mut state, BOB, 7) == Err(Refused::Full));
    for role in 20..23 {
        assert!(launch(&mut state, role, i64::from(role)).is_ok());
    }
    assert!(launch(&mut state, 23, 23) == Err(Refused::NoPlace));
}

#[test]
fn a_clock_that_is_set_back_keeps_nobody_waiting() {
    let mut state = State::empty();
    if let Some(lane) = state.lanes.first_mut() {
        *lane = Lane::new(1, ALICE, 1);
        lane.retry_at = 3601 * SECOND;
    }
    state.clock_set_back(3600 * SECOND);
    let waits: Vec<Micros> = state.lanes.iter().map(|lane| lane.retry_at).collect();
    assert_eq!(waits.first(), Some(&SECOND));
    assert!(waits.iter().skip(1).all(|retry_at| *retry_at == 0));
}
