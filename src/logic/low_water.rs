//! Low-water marks: from where a claim reads its index, so that it need not step over the entries
//! of jobs that are gone.
//!
//! The index of the claim is in order of priority, `run_at` and id. A mark says of one priority:
//! nothing that my snapshot saw stands before this place. What may still come to stand before it
//! is announced at its COMMIT with its `run_at`, and steps the marks back; announcements that were
//! lost are found by the keeper, which steps them back to the start.

use super::Timestamp;

/// The most priorities that have a mark; the others are read from their start.
const MOST: usize = 32;

/// A place in one queue's part of the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(C)]
pub struct Place {
    /// Lower goes first.
    pub priority: i32,
    /// Then the earlier.
    pub run_at: Timestamp,
    /// Then the lower.
    pub id: i64,
}

impl Place {
    /// The first place of a priority whose time is not before `run_at`.
    fn at(priority: i32, run_at: Timestamp) -> Self {
        Place {
            priority,
            run_at,
            id: i64::MIN,
        }
    }

    /// The first place behind this one.
    pub fn next(self) -> Self {
        match self.id.checked_add(1) {
            Some(id) => Place { id, ..self },
            None => Place::at(self.priority, self.run_at.saturating_add(1)),
        }
    }
}

/// A stretch of the index to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Where it begins; `None`: with the queue.
    pub from: Option<Place>,
    /// It ends before this priority; `None`: with the queue.
    pub below: Option<i32>,
}

/// The marks of one queue, in order, at most one a priority.
#[derive(Clone, Default)]
pub struct LowWater {
    marks: Vec<Place>,
    /// Nothing before the first mark is to be read.
    closed: bool,
}

impl LowWater {
    /// Marks that leave out all before `first`, whatever stands there.
    pub fn from(first: Place) -> Self {
        LowWater {
            marks: vec![first],
            closed: true,
        }
    }

    /// The same of all up to `last`, and of what these marks leave out anyway.
    pub fn behind(&self, last: Place) -> Self {
        let own = self.marks.iter().find(|m| m.priority == last.priority);
        let first = own.copied().map_or(last.next(), |own| own.max(last.next()));
        let later = self.marks.iter().filter(|m| m.priority > last.priority);
        LowWater {
            marks: std::iter::once(first).chain(later.copied()).collect(),
            closed: true,
        }
    }

    /// The marks, in order.
    pub fn marks(&self) -> &[Place] {
        &self.marks
    }

    /// Takes over the marks that another process of the same kind has further on; whether there are any.
    pub fn advance(&mut self, further: &LowWater) -> bool {
        let mut some = false;
        for mark in &further.marks {
            let own = self.marks.iter().find(|m| m.priority == mark.priority);
            if own.is_none_or(|own| own < mark) {
                self.found(*mark, Timestamp::MAX);
                some = true;
            }
        }
        some
    }

    /// From marks that stood in order.
    pub fn of(marks: &[Place]) -> Self {
        LowWater {
            marks: marks.to_vec(),
            closed: false,
        }
    }

    /// What is to be read, in order.
    pub fn stretches(&self) -> Vec<Stretch> {
        let below = |index: usize| self.marks.get(index).map(|mark| mark.priority);
        let before = (!self.closed).then(|| Stretch {
            from: None,
            below: below(0),
        });
        let behind = self.marks.iter().enumerate().map(|(index, mark)| Stretch {
            from: Some(*mark),
            below: below(index.saturating_add(1)),
        });
        before.into_iter().chain(behind).collect()
    }

    /// `first` is what was found first of its priority. What is due after `now` may be preceded
    /// by what is not yet there.
    pub fn found(&mut self, first: Place, now: Timestamp) {
        let mark = first.min(Place::at(first.priority, now));
        match self
            .marks
            .binary_search_by_key(&mark.priority, |m| m.priority)
        {
            Ok(index) => {
                if let Some(known) = self.marks.get_mut(index) {
                    *known = mark;
                }
            }
            Err(index) if self.marks.len() < MOST => self.marks.insert(index, mark),
            Err(_) => {}
        }
    }

    /// Nothing of a priority that has a mark was found.
    pub fn found_nothing(&mut self, priority: i32, now: Timestamp) {
        self.found(Place::at(priority, now), now);
    }

    /// A job that is due at `run_at` came, of whatever priority.
    pub fn step_back(&mut self, run_at: Timestamp) {
        for mark in &mut self.marks {
            *mark = (*mark).min(Place::at(mark.priority, run_at));
        }
    }
}

/// What one walk through a stretch comes upon, and what follows for the marks.
pub struct Reading<'l> {
    low: &'l mut LowWater,
    /// Where the stretch begins.
    from: Option<Place>,
    now: Timestamp,
    /// The priority that it is at.
    priority: Option<i32>,
    /// The mark of that priority is settled.
    settled: bool,
    /// The last of what was passed before anything that was kept.
    passed: Option<Place>,
}

impl<'l> Reading<'l> {
    /// Begins with a stretch of these marks.
    pub fn new(low: &'l mut LowWater, stretch: &Stretch, now: Timestamp) -> Self {
        Reading {
            low,
            from: stretch.from,
            now,
            priority: None,
            settled: false,
            passed: None,
        }
    }

    /// What stands there is to be found again.
    pub fn keep(&mut self, place: Place) {
        self.reach(place);
        if !std::mem::replace(&mut self.settled, true) {
            self.low.found(place, self.now);
        }
    }

    /// What stands there runs only after a change, which is announced as what is new.
    pub fn pass(&mut self, place: Place) {
        self.reach(place);
        if !self.settled {
            self.passed = Some(place);
        }
    }

    /// The same; and the walk may end here: the next one begins behind it. False if no mark can say so.
    pub fn pause(&mut self, place: Place) -> bool {
        self.pass(place);
        if self.settled {
            return false;
        }
        self.low.found(place.next(), self.now);
        self.low.marks.contains(&place.next())
    }

    /// All up to `end` is left out, whatever stands there. The priority that this leads into is not
    /// read from where it begins, so what is found first of it then is no mark.
    pub fn leave_out(&mut self, end: Place) {
        if self.priority != Some(end.priority) {
            self.leave(Some(end.priority));
            self.priority = Some(end.priority);
        }
        self.settled = true;
    }

    /// The walk is at its end.
    pub fn end(mut self) {
        self.leave(None);
    }

    fn reach(&mut self, place: Place) {
        if self.priority != Some(place.priority) {
            self.leave(Some(place.priority));
            self.priority = Some(place.priority);
            self.settled = false;
        }
    }

    fn leave(&mut self, next: Option<i32>) {
        if let Some(passed) = self.passed.take().filter(|_| !self.settled) {
            self.low.found(passed.next(), self.now);
        }
        if self.priority.is_none()
            && let Some(mark) = self.from.filter(|mark| next != Some(mark.priority))
        {
            self.low.found_nothing(mark.priority, self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LowWater, MOST, Place, Reading, Stretch};

    fn place(priority: i32, run_at: i64, id: i64) -> Place {
        Place {
            priority,
            run_at,
            id,
        }
    }

    #[test]
    fn without_marks_all_is_read() {
        let all = Stretch {
            from: None,
            below: None,
        };
        assert_eq!(LowWater::default().stretches(), [all]);
    }

    #[test]
    fn stretches_cover_all_but_what_stands_before_the_marks() {
        let mut low = LowWater::default();
        low.found(place(5, 10, 1), 100);
        low.found(place(0, 20, 2), 100);
        let expected = [
            (None, Some(0)),
            (Some(place(0, 20, 2)), Some(5)),
            (Some(place(5, 10, 1)), None),
        ];
        assert_eq!(
            low.stretches(),
            expected.map(|(from, below)| Stretch { from, below })
        );
    }

    #[test]
    fn marks_of_others_are_taken_over_where_they_are_further_on() {
        let (mut own, mut others) = (LowWater::default(), LowWater::default());
        own.found(place(0, 10, 1), 100);
        own.found(place(2, 50, 1), 100);
        others.found(place(0, 20, 1), 100);
        others.found(place(1, 30, 1), 100);
        others.found(place(2, 40, 1), 100);
        assert!(own.advance(&others));
        assert_eq!(
            own.marks,
            [place(0, 20, 1), place(1, 30, 1), place(2, 50, 1)]
        );
        assert!(!own.advance(&others));
    }

    #[test]
    fn what_is_left_out_stays_to_be_read() {
        let mut low = LowWater::default();
        let mut reading = Reading::new(&mut low, &ALL, 100);
        reading.keep(place(0, 10, 1));
        reading.leave_out(place(2, 20, 5));
        reading.keep(place(2, 20, 6));
        reading.keep(place(3, 10, 7));
        reading.end();
        assert_eq!(low.marks, [place(0, 10, 1), place(3, 10, 7)]);
    }

    #[test]
    fn a_walk_ends_early_only_where_the_next_one_can_go_on() {
        let mut low = LowWater::default();
        let mut reading = Reading::new(&mut low, &ALL, 100);
        reading.pass(place(0, 10, 1));
        assert!(reading.pause(place(0, 10, 2)));
        assert_eq!(low.marks, [place(0, 10, 3)]);
        // Behind what is to be found again.
        let mut reading = Reading::new(&mut low, &ALL, 100);
        reading.keep(place(0, 20, 4));
        assert!(!reading.pause(place(0, 20, 5)));
        assert!(reading.pause(place(1, 20, 6)));
        assert_eq!(low.marks, [place(0, 20, 4), place(1, 20, 7)]);
        // What is due now may be preceded by what comes.
        assert!(!Reading::new(&mut low, &ALL, 100).pause(place(2, 100, 7)));
        // With no room for another mark.
        let mut low = LowWater::default();
        (0..MOST as i32).for_each(|priority| low.found(place(priority, 1, 1), 100));
        assert!(!Reading::new(&mut low, &ALL, 100).pause(place(-1, 1, 1)));
    }

    #[test]
    fn leaving_out_part_of_a_priority_keeps_its_mark() {
        let mut low = LowWater::default();
        low.found(place(0, 10, 1), 100);
        let stretch = *low.stretches().last().unwrap();
        let mut reading = Reading::new(&mut low, &stretch, 100);
        reading.keep(place(0, 10, 3));
        reading.leave_out(place(0, 10, 8));
        reading.keep(place(0, 10, 9));
        reading.end();
        assert_eq!(low.marks, [place(0, 10, 3)]);
    }

    #[test]
    fn a_mark_is_not_later_than_now() {
        let mut low = LowWater::default();
        low.found(place(0, 500, 7), 100);
        assert_eq!(low.marks, [place(0, 100, i64::MIN)]);
    }

    #[test]
    fn late_comers_step_every_mark_back() {
        let mut low = LowWater::default();
        low.found(place(0, 50, 7), 100);
        low.found(place(1, 30, 3), 100);
        low.step_back(40);
        assert_eq!(low.marks, [place(0, 40, i64::MIN), place(1, 30, 3)]);
        low.step_back(i64::MIN);
        assert_eq!(
            low.marks,
            [place(0, i64::MIN, i64::MIN), place(1, i64::MIN, i64::MIN)]
        );
    }

    #[test]
    fn behind_a_place_are_later_ids_and_later_priorities() {
        let mut low = LowWater::default();
        low.found(place(0, 10, 1), 100);
        low.found(place(3, 10, 1), 100);
        low.found(place(9, 10, 1), 100);
        let behind = low.behind(place(3, 20, i64::MAX));
        assert_eq!(behind.marks, [place(3, 21, i64::MIN), place(9, 10, 1)]);
        assert_eq!(behind.stretches().len(), 2);
        // What the mark leaves out is not read again behind a job that stands before it.
        let behind = low.behind(place(3, 5, 7));
        assert_eq!(behind.marks, [place(3, 10, 1), place(9, 10, 1)]);
    }

    const ALL: Stretch = Stretch {
        from: None,
        below: None,
    };

    #[test]
    fn a_walk_marks_the_first_that_it_keeps_of_each_priority() {
        let mut low = LowWater::default();
        let mut reading = Reading::new(&mut low, &ALL, 100);
        reading.keep(place(0, 10, 1));
        reading.keep(place(0, 20, 2));
        reading.pass(place(3, 5, 3));
        reading.keep(place(3, 6, 4));
        reading.pass(place(3, 7, 5));
        reading.end();
        assert_eq!(low.marks, [place(0, 10, 1), place(3, 6, 4)]);
    }

    #[test]
    fn what_is_passed_is_not_read_again() {
        let mut low = LowWater::default();
        let mut reading = Reading::new(&mut low, &ALL, 100);
        reading.pass(place(0, 10, 1));
        reading.pass(place(0, 10, 2));
        reading.pass(place(1, 200, 7));
        reading.end();
        assert_eq!(low.marks, [place(0, 10, 3), place(1, 100, i64::MIN)]);
    }

    #[test]
    fn a_priority_where_nothing_stands_is_marked_at_now() {
        let mut low = LowWater::default();
        low.found(place(0, 10, 1), 50);
        let from_mark = Stretch {
            from: Some(place(0, 10, 1)),
            below: None,
        };
        Reading::new(&mut low, &from_mark, 100).end();
        assert_eq!(low.marks, [place(0, 100, i64::MIN)]);
        let mut reading = Reading::new(&mut low, &from_mark, 120);
        reading.keep(place(2, 30, 9));
        reading.end();
        assert_eq!(low.marks, [place(0, 120, i64::MIN), place(2, 30, 9)]);
    }

    #[test]
    fn priorities_beyond_the_most_have_no_mark() {
        let mut low = LowWater::default();
        for priority in 0..100 {
            low.found_nothing(priority, 100);
        }
        assert_eq!(low.marks.len(), MOST);
    }
}
