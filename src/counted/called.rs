//! What jobs call, as it is counted. A batch calls the same few functions again and again, so each process
//! remembers the last ones and the end of a job costs a comparison.

use std::rc::Rc;

use crate::logic::recent::{Called, Runs};
use crate::pg::datum;
use crate::pg::local::Local;

/// The most that a process remembers.
const MAX_REMEMBERED: usize = 8;

struct Remembered {
    runs: Runs,
    name: Vec<u8>,
    called: Rc<Called>,
}

static LAST: Local<Vec<Remembered>> = Local::new(Vec::new());

/// What such a job calls; `name` is empty if it is no handler.
pub fn called(runs: Runs, name: &[u8]) -> Rc<Called> {
    let known = LAST.with(|last| {
        let mut last = last.iter();
        let found = last.find(|one| one.runs == runs && one.name == name);
        found.map(|one| Rc::clone(&one.called))
    });
    known.unwrap_or_else(|| remember(runs, name))
}

fn remember(runs: Runs, name: &[u8]) -> Rc<Called> {
    let called = Rc::new(Called::new(runs, name, datum::clip_length));
    let new = Remembered {
        runs,
        name: name.to_vec(),
        called: Rc::clone(&called),
    };
    LAST.with(|last| {
        if last.len() >= MAX_REMEMBERED {
            last.clear();
        }
        last.push(new);
    });
    called
}
