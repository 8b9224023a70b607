use super::*;

fn board() -> Box<Board> {
    Box::new(Board {
        keys: [FREE; QUEUES],
        counters: [Counters::NONE; QUEUES],
    })
}

#[test]
fn executions_are_counted_by_queue() {
    let mut board = board();
    let mark = Mark::new(Ending::Completed, 2_000, 500);
    board.of(1, 7, 100, 10).unwrap().add(&mark, 10);
    board
        .of(1, 7, 100, 11)
        .unwrap()
        .add_end(Ending::Cancelled, 3, 11);
    let found = board.find(1, 7).unwrap();
    assert_eq!((found.completed, found.cancelled), (1, 3));
    let wait = found.wait.summary().unwrap();
    assert!((wait.mean - 2.0).abs() < 1e-9 && (wait.p99 - 2.0).abs() < 0.1);
    assert!(board.find(2, 7).is_none() && board.find(0, 0).is_none());
    assert!(board.of(0, 7, 100, 1).is_none() && board.of(1, 0, 100, 1).is_none());
}

#[test]
fn nothing_counted_has_no_summary() {
    assert_eq!(Counters::NONE.run.summary(), None);
}

#[test]
fn the_idlest_queue_gives_way() {
    let mut board = board();
    for queue in 1..=QUEUES as i32 {
        let now = 1000 - i64::from(queue);
        board
            .of(1, queue, 100, now)
            .unwrap()
            .add_end(Ending::Failed, 1, 9);
    }
    assert_eq!(board.of(1, 999, 100, 2000).unwrap().failed, 0);
    assert!(board.find(1, QUEUES as i32).is_none());
    assert_eq!(board.find(1, 1).unwrap().failed, 1);
}

#[test]
fn counters_know_whose_jobs_they_counted() {
    let mut board = board();
    assert_eq!(board.role_of(1, 7), 0);
    board.of(1, 7, 100, 1).unwrap();
    board.of(1, 7, 100, 2).unwrap();
    assert_eq!(board.role_of(1, 7), 100);
    let mut loaded = self::board();
    assert!(loaded.load(&board.to_bytes()));
    assert_eq!(loaded.role_of(1, 7), 100);
    board.of(1, 7, 200, 3).unwrap();
    board.of(1, 7, 100, 4).unwrap();
    assert_eq!(board.role_of(1, 7), SEVERAL_ROLES);
    board.reset(1);
    board.of(1, 7, 200, 5).unwrap();
    assert_eq!(board.role_of(1, 7), 200);
}

#[test]
fn a_reset_forgets_one_database() {
    let mut board = board();
    board
        .of(1, 1, 100, 1)
        .unwrap()
        .add_end(Ending::Failed, 1, 9);
    board
        .of(2, 1, 100, 1)
        .unwrap()
        .add_end(Ending::Failed, 1, 9);
    board.reset(1);
    assert!(board.find(1, 1).is_none());
    assert_eq!(board.of(1, 1, 100, 2).unwrap().failed, 0);
    assert_eq!(board.find(2, 1).unwrap().failed, 1);
}

#[test]
fn bytes_bring_everything_back() {
    let mut before = board();
    for queue in 1..20 {
        let mark = Mark::new(Ending::Retried, i64::from(queue) * 1000, 77);
        before.of(5, queue, 100, 3).unwrap().add(&mark, 10);
    }
    let bytes = before.to_bytes();
    let mut after = board();
    assert!(after.load(&bytes));
    assert_eq!(after.to_bytes(), bytes);
    let (old, new) = (before.find(5, 9).unwrap(), after.find(5, 9).unwrap());
    assert_eq!(old.wait.summary(), new.wait.summary());
}

#[test]
fn malformed_bytes_are_ignored() {
    let mut from = board();
    from.of(5, 1, 100, 3).unwrap().add_end(Ending::Failed, 1, 9);
    let bytes = from.to_bytes();
    let mut board = board();
    for length in [0, 7, 8, 100, bytes.len() - 1] {
        assert!(!board.load(&bytes[..length]));
    }
    for at in [0, 9, 13, 20, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(!board.load(&changed));
        assert!(board.find(5, 1).is_none());
    }
}
