//! What follows from an error of a job: whether it is tried again, and how soon.
//!
//! A queue names SQLSTATEs in `retry_on` and `fail_on`, each as five characters or as a class of two.

/// The SQLSTATE of `give_up()`: a job that fails with it is not tried again, whatever its queue says.
pub const GIVE_UP: &[u8; 5] = b"MW001";

/// What others did at the same time: a serialization failure, a deadlock. The next attempt may well succeed.
pub const CONFLICTS: [&[u8; 5]; 2] = [b"40001", b"40P01"];

/// So many conflicts in a row are tried again at once; after that the queue's backoff counts.
pub const QUICK_IN_A_ROW: i32 = 3;

/// The most codes that a queue names in one setting.
pub const MOST_CODES: usize = 100;

/// What follows from an error while the job has attempts left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again after the queue's backoff.
    Again,
    /// It is tried again at once, unless it was so several times in a row.
    Quick,
    /// It has failed for good.
    Never,
}

/// SQLSTATEs and classes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes(Vec<Vec<u8>>);

impl Codes {
    /// Those of a setting, as it stands in the table of queues. What is no code matches nothing.
    pub fn new(all: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Codes(all.into_iter().filter(|code| is_code(code)).collect())
    }

    /// Whether the SQLSTATE is one of them, or of one of the classes.
    pub fn hold(&self, sqlstate: &[u8]) -> bool {
        self.0.iter().any(|code| sqlstate.starts_with(code))
    }
}

/// Whether that is a SQLSTATE, or a class of them.
pub fn is_code(code: &[u8]) -> bool {
    let is_sign = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    matches!(code.len(), 2 | 5) && code.iter().all(is_sign)
}

/// Delay before a quick retry, in microseconds; `unit` in [0, 1) spreads those that have met, so that they
/// do not meet again.
pub fn quick_delay(unit: f64) -> i64 {
    (5_000.0 + 45_000.0 * unit.clamp(0.0, 1.0)) as i64
}

/// What follows from an error. `retry_on`: only these are tried again; `fail_on`: these are not, which wins.
pub fn judge(sqlstate: &[u8], retry_on: Option<&Codes>, fail_on: Option<&Codes>) -> Verdict {
    let is_refused = fail_on.is_some_and(|codes| codes.hold(sqlstate))
        || retry_on.is_some_and(|codes| !codes.hold(sqlstate));
    if is_refused || sqlstate == GIVE_UP {
        return Verdict::Never;
    }
    match CONFLICTS.iter().any(|conflict| sqlstate == *conflict) {
        true => Verdict::Quick,
        false => Verdict::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::testing::Rng;

    fn codes(all: &[&str]) -> Codes {
        Codes::new(all.iter().map(|code| code.as_bytes().to_vec()))
    }

    #[test]
    fn codes_are_two_or_five_digits_and_capitals() {
        for good in ["40", "40001", "P0", "P0001", "XX", "00000"] {
            assert!(is_code(good.as_bytes()), "{good}");
        }
        for bad in [
            "", "4", "400", "4000", "400011", "p0", "4 ", "40-01", "４０",
        ] {
            assert!(!is_code(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_class_holds_its_codes() {
        let all = codes(&["23", "40P01", "bad"]);
        assert!(all.hold(b"23505") && all.hold(b"40P01"));
        assert!(!all.hold(b"40001") && !all.hold(b"22023") && !all.hold(b"bad00"));
    }

    #[test]
    fn fail_on_wins() {
        let (class, one) = (codes(&["23"]), codes(&["23505"]));
        assert_eq!(judge(b"23505", Some(&class), Some(&one)), Verdict::Never);
        assert_eq!(judge(b"23503", Some(&class), Some(&one)), Verdict::Again);
        assert_eq!(judge(b"23505", Some(&one), Some(&class)), Verdict::Never);
        assert_eq!(judge(b"22012", Some(&class), None), Verdict::Never);
        assert_eq!(judge(b"22012", None, Some(&class)), Verdict::Again);
        assert_eq!(judge(b"22012", None, None), Verdict::Again);
        assert_eq!(judge(b"22012", Some(&codes(&[])), None), Verdict::Never);
        assert_eq!(judge(b"22012", None, Some(&codes(&[]))), Verdict::Again);
    }

    #[test]
    fn conflicts_are_quick_unless_the_queue_says_otherwise() {
        let class = codes(&["40"]);
        for conflict in [b"40001", b"40P01"] {
            assert_eq!(judge(conflict, None, None), Verdict::Quick);
            assert_eq!(judge(conflict, Some(&class), None), Verdict::Quick);
            assert_eq!(judge(conflict, None, Some(&class)), Verdict::Never);
            assert_eq!(judge(conflict, Some(&codes(&["23"])), None), Verdict::Never);
        }
        assert_eq!(judge(b"40000", None, None), Verdict::Again);
    }

    #[test]
    fn whoever_gives_up_is_heeded() {
        assert_eq!(judge(GIVE_UP, None, None), Verdict::Never);
        assert_eq!(judge(GIVE_UP, Some(&codes(&["MW"])), None), Verdict::Never);
    }

    #[test]
    fn any_rules_agree_with_their_words() {
        let mut random = Rng::new(7);
        let known = [
            "23", "23505", "40", "40001", "40P01", "22", "P0001", "MW001",
        ];
        for _ in 0..20_000 {
            let mut some = || {
                let count = random.range(0, 3);
                let names: Vec<&str> = (0..count).map(|_| *random.pick(&known)).collect();
                (random.range(0, 3) > 0).then_some(names)
            };
            let (retry_on, fail_on) = (some(), some());
            let state = *random.pick(&["23505", "23503", "40001", "40P01", "22012", "P0001"]);
            let named = |list: &Option<Vec<&str>>| {
                let all = list.as_ref()?.iter();
                Some(
                    all.into_iter()
                        .any(|code| *code == state || *code == &state[..2]),
                )
            };
            let expected = match (named(&fail_on), named(&retry_on)) {
                (Some(true), _) | (_, Some(false)) => Verdict::Never,
                _ if ["40001", "40P01"].contains(&state) => Verdict::Quick,
                _ => Verdict::Again,
            };
            let (retry, fail) = (
                retry_on.as_deref().map(codes),
                fail_on.as_deref().map(codes),
            );
            let got = judge(state.as_bytes(), retry.as_ref(), fail.as_ref());
            assert_eq!(got, expected, "{state} {retry_on:?} {fail_on:?}");
        }
    }

    #[test]
    fn a_quick_retry_is_within_a_tenth_of_a_second() {
        for unit in [0.0, 0.5, 0.999_999] {
            assert!((5_000..=50_000).contains(&quick_delay(unit)));
        }
    }
}
