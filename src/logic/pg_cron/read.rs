//! Reads texts as pg_cron's `entry.c` and `TryParseInterval` do.

use super::{DAY, Entry, Field, HOUR, MINUTE, MONTH, Meaning, Refusal, WEEKDAY, WEEKDAY_ONCE};
use super::{bit, spread};

/// pg_cron reads no longer text.
const MAX_BYTES: usize = 999;

/// Reads a text. `match_both`: the setting `cron.match_dom_and_dow`.
pub fn read(text: &[u8], match_both: bool) -> Result<Meaning, Refusal> {
    let entry = match text.len() {
        0..=MAX_BYTES => Reader { text, at: 0 }.entry(),
        _ => Err(Refusal::Unreadable),
    };
    match entry {
        Ok(mut entry) => {
            entry.both |= match_both;
            Ok(Meaning::Entry(entry))
        }
        // What is no entry may be a number of seconds.
        Err(Refusal::Unreadable) => seconds(text).map(Meaning::Every).ok_or(Refusal::Unreadable),
        Err(refusal) => Err(refusal),
    }
}

/// ` 30 seconds`, as `sscanf(" %u secon%c%c %c")` reads it.
fn seconds(text: &[u8]) -> Option<u32> {
    let text = text.to_ascii_lowercase();
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let rest = rest.trim_ascii_start().strip_prefix(b"second")?;
    let is_end = match rest.strip_prefix(b"s") {
        Some(rest) => rest.trim_ascii().is_empty(),
        None => rest.is_empty(),
    };
    (is_end && (1..60).contains(&number)).then_some(number)
}

/// Reads characters as `get_char()` does: behind the text a zero, and then nothing.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn skip_while(&mut self, test: impl Fn(u8) -> bool) {
        while self.at < self.text.len() && test(self.peek()) {
            self.step();
        }
    }

    fn skip_blanks(&mut self) {
        self.skip_while(is_blank);
    }

    /// Blank lines and comments in front.
    fn skip_comments(&mut self) {
        self.skip_blanks();
        while matches!(self.peek(), b'\n' | b'#') {
            self.skip_while(|c| c != b'\n');
            self.step();
            self.skip_blanks();
        }
    }

    fn entry(&mut self) -> Result<Entry, Refusal> {
        self.skip_comments();
        if self.peek() == b'@' {
            self.step();
            let start = self.at;
            self.skip_while(|c| !is_blank(c) && c != b'\n');
            return named(self.text.get(start..self.at).unwrap_or_default());
        }
        let minutes = self.list(MINUTE)?;
        let hours = self.list(HOUR)?;
        let mut both = self.peek() == b'*';
        let last_day = self.peek() == b'$';
        let days = if last_day {
            self.step();
            if !is_blank(self.peek()) {
                return Err(Refusal::Unreadable);
            }
            self.skip_blanks();
            0
        } else {
            self.list(DAY)?
        };
        let months = self.list(MONTH)?;
        both |= self.peek() == b'*';
        let weekdays = self.list(WEEKDAY)?;
        Ok(Entry {
            minutes,
            hours,
            days,
            months,
            weekdays: one_sunday(weekdays),
            last_day,
            both,
        })
    }

    /// A list, what stands behind it up to a blank, and the blanks.
    fn list(&mut self, field: Field) -> Result<u64, Refusal> {
        let mut values = self.range(field)?;
        while self.peek() == b',' {
            self.step();
            values |= self.range(field)?;
        }
        self.skip_while(|c| !is_blank(c) && c != b'\n');
        self.skip_blanks();
        Ok(values)
    }

    fn range(&mut self, field: Field) -> Result<u64, Refusal> {
        let (low, high) = if self.peek() == b'*' {
            self.step();
            (field.first, field.last)
        } else {
            let low = self.number(field)?;
            match self.peek() {
                b'-' => {
                    self.step();
                    (low, self.number(field)?)
                }
                // A step needs a range.
                b'/' => return Err(Refusal::Unreadable),
                _ if field.has(low) => return Ok(bit(low)),
                _ => return Err(Refusal::Unreadable),
            }
        };
        let mut step = 1;
        if self.peek() == b'/' {
            self.step();
            step = self.number(MINUTE)?;
        }
        let is_sane = field.has(low) && field.has(high) && (1..=field.last).contains(&step);
        match is_sane {
            false => Err(Refusal::Unreadable),
            true if low > high => Err(Refusal::Backwards),
            true => Ok(spread(low, high, step)),
        }
    }

    /// A name, or a number of any size.
    fn number(&mut self, field: Field) -> Result<u32, Refusal> {
        let start = self.at;
        self.skip_while(|c| c.is_ascii_alphanumeric());
        let word = self.text.get(start..self.at).unwrap_or_default();
        let word = std::str::from_utf8(word).unwrap_or_default();
        let name = field
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(word));
        if let Some(index) = name.and_then(|index| u32::try_from(index).ok()) {
            return Ok(index.saturating_add(field.first));
        }
        let is_number = !word.is_empty() && word.bytes().all(|c| c.is_ascii_digit());
        match word.parse() {
            Ok(number) if is_number => Ok(number),
            _ => Err(Refusal::Unreadable),
        }
    }
}

fn is_blank(c: u8) -> bool {
    c == b' ' || c == b'\t'
}

/// Sunday is 0 from here on.
fn one_sunday(weekdays: u64) -> u64 {
    let sunday = if weekdays & bit(7) != 0 { bit(0) } else { 0 };
    (weekdays | sunday) & WEEKDAY_ONCE.all()
}

/// `@daily` and its like; the word alone counts.
fn named(word: &[u8]) -> Result<Entry, Refusal> {
    let at_midnight = Entry {
        minutes: bit(0),
        hours: bit(0),
        days: DAY.all(),
        months: MONTH.all(),
        weekdays: WEEKDAY_ONCE.all(),
        last_day: false,
        both: true,
    };
    match word {
        b"reboot" | b"restart" => Err(Refusal::Reboot),
        b"yearly" | b"annually" => Err(Refusal::Yearly),
        b"monthly" => Ok(Entry {
            days: bit(1),
            ..at_midnight
        }),
        b"weekly" => Ok(Entry {
            weekdays: bit(0),
            ..at_midnight
        }),
        b"daily" | b"midnight" => Ok(at_midnight),
        b"hourly" => Ok(Entry {
            hours: HOUR.all(),
            ..at_midnight
        }),
        _ => Err(Refusal::Unreadable),
    }
}
