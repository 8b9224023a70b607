//! What keepers are to look at for jobs that come after others: ranges of ids, a bounded number of them.
//!
//! A range may hold ids that nobody waits for: whoever looks finds out. So where there is no room two
//! ranges become one, and nothing is lost.

use super::{Known, Oid, State, Wake};

/// So many ranges there are, of all databases.
pub const NEWS: usize = 64;
/// Ranges that are so near to each other become one.
const NEAR: i64 = 64;

/// What there is about the jobs of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum About {
    /// Some of them were enqueued, and come after others.
    Blocked = 0,
    /// Some of them have ended, and others may come after them.
    Ended,
}

/// A range of ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct News {
    /// 0: not in use.
    pub database: Oid,
    /// See [`About`].
    pub about: About,
    /// The first id.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

impl News {
    /// Nothing.
    pub const NONE: News = News {
        database: 0,
        about: About::Blocked,
        from: 0,
        to: 0,
    };

    fn is_of(&self, other: &News) -> bool {
        self.database == other.database && self.about == other.about
    }

    fn is_near(&self, other: &News) -> bool {
        self.from <= other.to.saturating_add(NEAR) && other.from <= self.to.saturating_add(NEAR)
    }

    fn with(&self, other: &News) -> News {
        News {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            ..*self
        }
    }

    fn length(&self) -> i64 {
        self.to.saturating_sub(self.from)
    }
}

impl State {
    /// Has the keeper of a database look at a range; answers the process to wake. A database without an
    /// entry has no keeper: the one that it gets looks at everything.
    pub fn tell_news(&mut self, new: News) -> Wake {
        let Some(entry) = self.database(new.database) else {
            return self.ask_place(new.database);
        };
        if entry.known == Known::Absent {
            entry.is_there_again();
        }
        entry.news = true;
        if !self.keep_news(new)
            && let Some(entry) = self.database(new.database)
        {
            entry.sweep = true;
        }
        self.keeper_or_launcher(new.database)
    }

    /// False if there is no room for it.
    fn keep_news(&mut self, new: News) -> bool {
        let near = |known: &&mut News| known.is_of(&new) && known.is_near(&new);
        if let Some(known) = self.news.iter_mut().find(near) {
            *known = known.with(&new);
            return true;
        }
        if let Some(free) = self.news.iter_mut().find(|known| known.database == 0) {
            *free = new;
            return true;
        }
        let same = self.news.iter_mut().filter(|known| known.is_of(&new));
        let least = same.min_by_key(|known| known.with(&new).length());
        match least {
            Some(known) => {
                *known = known.with(&new);
                true
            }
            None => false,
        }
    }

    /// For the keeper: takes what there is for its database into `taken`, which has room for [`NEWS`]; true
    /// if some of it was lost, so that everything is to be looked at.
    pub fn take_news(&mut self, database: Oid, taken: &mut Vec<News>) -> bool {
        for news in self.news.iter_mut().filter(|n| n.database == database) {
            taken.push(*news);
            news.database = 0;
        }
        let entry = self.database(database);
        entry.is_some_and(|entry| {
            entry.news = false;
            std::mem::take(&mut entry.sweep)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Database;
    use super::*;

    fn state() -> Box<State> {
        let mut state = State::empty();
        state.databases[0] = Database::new(5);
        state.databases[1] = Database::new(6);
        state
    }

    fn news(database: Oid, about: About, from: i64, to: i64) -> News {
        News {
            database,
            about,
            from,
            to,
        }
    }

    fn taken(state: &mut State, database: Oid) -> (Vec<News>, bool) {
        let mut taken = Vec::with_capacity(NEWS);
        let lost = state.take_news(database, &mut taken);
        (taken, lost)
    }

    #[test]
    fn ranges_that_are_near_become_one() {
        let mut state = state();
        for id in [10, 11, 70, 1000] {
            state.tell_news(news(5, About::Ended, id, id)).is_awake();
        }
        let expected = vec![
            news(5, About::Ended, 10, 70),
            news(5, About::Ended, 1000, 1000),
        ];
        assert_eq!(taken(&mut state, 5), (expected, false));
        assert_eq!(taken(&mut state, 5), (Vec::new(), false));
    }

    #[test]
    fn databases_and_what_it_is_about_stay_apart() {
        let mut state = state();
        for (database, about) in [(5, About::Ended), (5, About::Blocked), (6, About::Ended)] {
            state.tell_news(news(database, about, 7, 8)).is_awake();
        }
        assert_eq!(taken(&mut state, 5).0.len(), 2);
        assert_eq!(taken(&mut state, 6).0, [news(6, About::Ended, 7, 8)]);
    }

    #[test]
    fn without_room_the_range_that_grows_least_takes_the_new_one_in() {
        let mut state = state();
        for n in 0..NEWS as i64 {
            state
                .tell_news(news(5, About::Ended, n * 1000, n * 1000))
                .is_awake();
        }
        state
            .tell_news(news(5, About::Ended, 5400, 5400))
            .is_awake();
        let (found, lost) = taken(&mut state, 5);
        assert!(found.contains(&news(5, About::Ended, 5000, 5400)) && !lost);
        assert_eq!(found.len(), NEWS);
    }

    #[test]
    fn without_room_for_a_database_its_keeper_looks_at_everything() {
        let mut state = state();
        for n in 0..NEWS as i64 {
            state
                .tell_news(news(5, About::Ended, n * 1000, n * 1000))
                .is_awake();
        }
        state.tell_news(news(6, About::Ended, 1, 1)).is_awake();
        assert_eq!(taken(&mut state, 6), (Vec::new(), true));
        assert_eq!(taken(&mut state, 6), (Vec::new(), false));
    }

    #[test]
    fn no_id_is_ever_lost() {
        let mut random = crate::logic::testing::Rng::new(16);
        for _ in 0..200 {
            let mut state = state();
            let mut told = Vec::new();
            for _ in 0..random.range(0, 300) {
                let id = random.range(-100, 100_000);
                let database = random.range(5, 6) as Oid;
                told.push((database, id));
                state
                    .tell_news(news(database, About::Ended, id, id))
                    .is_awake();
            }
            for database in [5, 6] {
                let (found, lost) = taken(&mut state, database);
                let holds = |id: i64| lost || found.iter().any(|n| n.from <= id && id <= n.to);
                let mut of_it = told.iter().filter(|(of, _)| *of == database);
                assert!(of_it.all(|(_, id)| holds(*id)));
            }
        }
    }
}
