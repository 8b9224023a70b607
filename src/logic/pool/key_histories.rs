//! Random histories of jobs with keys: workers that look, take keys, run, commit, are rolled back and die, one small
//! step each in any order, while jobs come, come late, fail and are cancelled. Never do more of a key run than may, never
//! does a job of a fifo queue start before an earlier one has ended, and no job stays behind.

use super::key_world::World;

#[test]
fn keys_keep_their_order_and_their_limits_and_no_job_stays_behind() {
    for seed in 0..4_000 {
        let mut world = World::new(seed);
        for step in 0..600 {
            match world.rng.range(0, 40) {
                0..=2 if step < 300 => world.enqueue(),
                3 if step < 300 => world.cancel(),
                4..=6 => world.tell(),
                7 => world.pass_time(5),
                8 if step < 300 && world.rng.next().is_multiple_of(5) => {
                    let index = world.rng.next() as usize % world.workers.len();
                    world.kill(index);
                }
                _ => {
                    let index = world.rng.next() as usize % world.workers.len();
                    world.step(index);
                }
            }
        }
        for _ in 0..100_000 {
            if world.table.is_empty() {
                break;
            }
            world.tell();
            if world.is_quiet() {
                let next = world.table.values().map(|job| job.place.run_at);
                let next = next.filter(|at| *at > world.now).min();
                let Some(next) = next else {
                    panic!("seed {seed}: {} jobs stay behind", world.table.len());
                };
                world.pass_time(next - world.now);
            }
            let index = world.rng.next() as usize % world.workers.len();
            world.step(index);
        }
        assert!(world.table.is_empty(), "seed {seed}: no end");
    }
}
