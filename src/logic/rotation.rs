//! What a process remembers of things that it comes to one after the other, in order and round again.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Makes room for `next` where at most `most` things are remembered: forgets the one before `next`, or the last one if
/// there is none before. Whoever goes through the things in order comes to that one last. If all were forgotten,
/// each round would learn all of them anew.
pub fn make_room<K, V, Q>(known: &mut BTreeMap<K, V>, next: &Q, most: usize)
where
    K: Ord + Clone + Borrow<Q>,
    Q: Ord + ?Sized,
{
    while known.len() >= most.max(1) && !known.contains_key(next) {
        let mut before = known.range::<Q, _>((Bound::Unbounded, Bound::Excluded(next)));
        let before = before.next_back().or_else(|| known.last_key_value());
        let Some(before) = before.map(|(key, _)| key.clone()) else {
            return;
        };
        known.remove::<Q>(before.borrow());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes round `things` things, remembering up to `most`; answers how many it knew when it came to them.
    fn known_of(rounds: u32, things: u32, most: usize) -> usize {
        let mut known = BTreeMap::new();
        let mut hits = 0;
        for thing in (0..rounds).flat_map(|_| 0..things) {
            hits += usize::from(known.contains_key(&thing));
            make_room(&mut known, &thing, most);
            known.insert(thing, ());
            assert!(known.len() <= most);
        }
        hits
    }

    #[test]
    fn all_are_known_where_there_is_room() {
        assert_eq!(known_of(2, 8, 8), 8);
    }

    #[test]
    fn with_one_too_many_the_others_stay_known() {
        assert!(known_of(11, 9, 8) >= 10 * 7);
    }

    #[test]
    fn of_twice_as_many_half_are_known() {
        assert!(known_of(11, 16, 8) >= 10 * 7);
    }

    #[test]
    fn what_is_known_takes_no_room() {
        let mut known = BTreeMap::from([(1, ()), (2, ())]);
        make_room(&mut known, &2, 2);
        assert_eq!(known.len(), 2);
    }
}
