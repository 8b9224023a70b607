//! The grammar of cron expressions.
//!
//! Five fields (minute, hour, day of month, month, day of week), or six with the second first,
//! separated by blanks; or one of the `@` names. A field is a comma-separated list of
//!
//! | item | means |
//! |---|---|
//! | `*` | all values (`?` too, in the two day fields, on its own) |
//! | `7` | that value; months and weekdays also by their English three-letter names, in any case |
//! | `9-17` | a range. Months and weekdays may wrap: `nov-feb`, `fri-mon`, `sat-sun` |
//! | `*/5`, `10-50/10` | every so-many-th value of the range, counted from its first |
//! | `5/15` | the same, from 5 to the end of the field |
//! | `L` | in the day of month: the last day of the month, also as a range's end (`28-L`) |
//!
//! Weekdays are 0-7, both 0 and 7 are Sunday. Refused, because libraries disagree about them:
//! `W`, `#`, `L` as a weekday, ranges that run backwards in other fields.

use super::cron::CronExpr;
use super::cron_field::{CronError, Field, Values, bit};
use super::limits::{self, MAX_SCHEDULE_BYTES};

impl CronExpr {
    /// Parses five fields, six with the second first, or an `@` name.
    pub fn parse(text: &str) -> Result<CronExpr, CronError> {
        parse(text)
    }
}

/// Parses five or six fields, or an `@` name.
fn parse(text: &str) -> Result<CronExpr, CronError> {
    if text.len() > MAX_SCHEDULE_BYTES {
        return Err(CronError::TooLong);
    }
    let text = text.trim_ascii();
    let text = if text.starts_with('@') {
        expand_macro(text)?
    } else {
        text
    };
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    match fields.as_slice() {
        [] => Err(CronError::Empty),
        [m, h, dom, mon, dow] => build(["0", m, h, dom, mon, dow]),
        [s, m, h, dom, mon, dow] => build([s, m, h, dom, mon, dow]),
        other => Err(CronError::FieldCount(other.len())),
    }
}

fn expand_macro(text: &str) -> Result<&'static str, CronError> {
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(CronError::UnknownMacro(limits::printable(text))),
    }
}

fn build([s, m, h, dom, mon, dow]: [&str; 6]) -> Result<CronExpr, CronError> {
    Ok(CronExpr::new([
        list(Field::Second, s)?,
        list(Field::Minute, m)?,
        list(Field::Hour, h)?,
        list(Field::DayOfMonth, dom)?,
        list(Field::Month, mon)?,
        list(Field::DayOfWeek, dow)?,
    ]))
}

/// A whole field.
fn list(field: Field, text: &str) -> Result<Values, CronError> {
    if text == "?" && field.is_day() {
        return list(field, "*");
    }
    let mut values = Values::default();
    for text in text.split(',') {
        let item = item(field, text)?;
        values.mask |= item.mask;
        values.any |= item.any;
        values.star |= item.star;
        values.last_day |= item.last_day;
    }
    Ok(values)
}

/// One item of a list.
fn item(field: Field, text: &str) -> Result<Values, CronError> {
    if field == Field::DayOfMonth && text.eq_ignore_ascii_case("l") {
        return Ok(Values {
            last_day: true,
            ..Values::default()
        });
    }
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(field.step(step)?)),
        None => (text, None),
    };
    let (low, high) = bounds(field, range, step.is_some())?;
    let mask = spread(field, low, high, step.unwrap_or(1));
    Ok(Values {
        mask,
        any: text == "*",
        star: range == "*",
        last_day: false,
    })
}

/// First and last value of a range; the last lies beyond the field's end if the range wraps.
fn bounds(field: Field, range: &str, stepped: bool) -> Result<(u32, u32), CronError> {
    let (first, last) = field.bounds();
    if range == "*" {
        return Ok((first, last));
    }
    let Some((low_text, high_text)) = range.split_once('-') else {
        let low = field.value(range)?;
        return Ok(if stepped {
            (within(field, low), last)
        } else {
            (low, low)
        });
    };
    let low = field.value(low_text)?;
    let to_last_day = field == Field::DayOfMonth && high_text.eq_ignore_ascii_case("l");
    let high = if to_last_day {
        last
    } else {
        field.value(high_text)?
    };
    if low <= high {
        Ok((low, high))
    } else if field.wraps() {
        Ok((low, high.saturating_add(field.cycle())))
    } else {
        Err(field.backwards(range))
    }
}

/// The values low, low + step, ... up to high, those beyond the field's end wrapped around.
fn spread(field: Field, low: u32, high: u32, step: u32) -> u64 {
    let mut mask = 0;
    let mut value = low;
    while value <= high {
        mask |= bit(within(field, value));
        value = value.saturating_add(step);
    }
    mask
}

/// A value beyond the field's end is one of the next cycle: weekday 7 is 0, month 13 is 1.
fn within(field: Field, value: u32) -> u32 {
    let (_, last) = field.bounds();
    if value > last {
        value.saturating_sub(field.cycle())
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::testing::Rng;

    fn values(field: Field, text: &str) -> Vec<u32> {
        let mask = list(field, text).unwrap().mask;
        (0..64).filter(|n| mask & bit(*n) != 0).collect()
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn items_name_their_values() {
        assert_eq!(values(Field::Minute, "7"), [7]);
        assert_eq!(values(Field::Minute, "007"), [7]);
        assert_eq!(values(Field::Hour, "*").len(), 24);
        assert_eq!(values(Field::Hour, "9-12"), [9, 10, 11, 12]);
        assert_eq!(values(Field::Hour, "9-9"), [9]);
        assert_eq!(values(Field::Minute, "*/20"), [0, 20, 40]);
        assert_eq!(values(Field::Minute, "10-50/15"), [10, 25, 40]);
        assert_eq!(values(Field::Minute, "5/15"), [5, 20, 35, 50]);
        assert_eq!(values(Field::Minute, "59/15"), [59]);
        assert_eq!(values(Field::Minute, "1,2,40-41,1"), [1, 2, 40, 41]);
        assert_eq!(values(Field::DayOfMonth, "*/10"), [1, 11, 21, 31]);
        assert_eq!(values(Field::DayOfMonth, "*/100"), [1]);
        assert_eq!(values(Field::DayOfMonth, "29-L"), [29, 30, 31]);
    }

    #[test]
    fn names_are_values_in_any_case() {
        assert_eq!(values(Field::Month, "jan,DEC,Jun-aug"), [1, 6, 7, 8, 12]);
        assert_eq!(values(Field::DayOfWeek, "mon-FRI"), [1, 2, 3, 4, 5]);
        assert_eq!(values(Field::DayOfWeek, "mon-5/2"), [1, 3, 5]);
    }

    #[test]
    fn sunday_is_zero_and_seven() {
        assert_eq!(values(Field::DayOfWeek, "7"), [0]);
        assert_eq!(values(Field::DayOfWeek, "5-7"), [0, 5, 6]);
        assert_eq!(values(Field::DayOfWeek, "0-7").len(), 7);
        assert_eq!(values(Field::DayOfWeek, "7-2"), [0, 1, 2]);
        assert_eq!(values(Field::DayOfWeek, "7/2"), [0, 2, 4, 6]);
        assert_eq!(values(Field::DayOfWeek, "1-7/2"), [0, 1, 3, 5]);
    }

    #[test]
    fn months_and_weekdays_wrap() {
        assert_eq!(values(Field::DayOfWeek, "fri-mon"), [0, 1, 5, 6]);
        assert_eq!(values(Field::DayOfWeek, "sat-sun"), [0, 6]);
        assert_eq!(values(Field::Month, "nov-feb"), [1, 2, 11, 12]);
        assert_eq!(values(Field::Month, "oct-mar/2"), [2, 10, 12]);
    }

    #[test]
    fn day_fields_know_their_specials() {
        let last = list(Field::DayOfMonth, "15,L").unwrap();
        assert!(last.last_day && last.mask == bit(15) && !last.any);
        assert!(list(Field::DayOfMonth, "?").unwrap().any);
        assert!(list(Field::DayOfWeek, "?").unwrap().any);
        assert!(!list(Field::DayOfWeek, "*/1").unwrap().any);
    }

    #[test]
    fn macros_stand_for_fields() {
        for (name, fields) in [
            ("@hourly", "0 * * * *"),
            (" @Daily ", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("@YEARLY", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
        ] {
            assert_eq!(parse(name).unwrap(), parse(fields).unwrap(), "{name}");
        }
    }

    #[test]
    fn blanks_of_any_kind_separate_fields() {
        let plain = parse("1 2 3 4 5").unwrap();
        assert_eq!(parse("  1\t2  3\n4 5 ").unwrap(), plain);
        assert_eq!(parse("0 1 2 3 4 5").unwrap(), plain);
        assert!(parse("1\u{a0}2 3 4 5").is_err());
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn errors_name_the_field() {
        for (text, expected) in [
            ("", "schedule must not be empty"),
            (
                "* * * *",
                "cron expression must have five or six fields, not 4",
            ),
            (
                "* * * * * * *",
                "cron expression must have five or six fields, not 7",
            ),
            (
                "60 * * * *",
                "value \"60\" is out of range for the minute field",
            ),
            (
                "60 * * * * *",
                "value \"60\" is out of range for the second field",
            ),
            (
                "* 24 * * *",
                "value \"24\" is out of range for the hour field",
            ),
            (
                "* * 0 * *",
                "value \"0\" is out of range for the day-of-month field",
            ),
            (
                "* * * 13 *",
                "value \"13\" is out of range for the month field",
            ),
            (
                "* * * * 8",
                "value \"8\" is out of range for the day-of-week field",
            ),
            (
                "99999999999 * * * *",
                "value \"99999999999\" is out of range for the minute field",
            ),
            ("-1 * * * *", "invalid value \"\" in the minute field"),
            ("1,,2 * * * *", "invalid value \"\" in the minute field"),
            ("+1 * * * *", "invalid value \"+1\" in the minute field"),
            ("1.5 * * * *", "invalid value \"1.5\" in the minute field"),
            ("1-2-3 * * * *", "invalid value \"2-3\" in the minute field"),
            ("*-3 * * * *", "invalid value \"*\" in the minute field"),
            ("? * * * *", "invalid value \"?\" in the minute field"),
            (
                "* * L-3 * *",
                "invalid value \"L\" in the day-of-month field",
            ),
            (
                "* * 15W * *",
                "invalid value \"15W\" in the day-of-month field",
            ),
            (
                "* * * monday *",
                "invalid value \"monday\" in the month field",
            ),
            (
                "* * * * monday",
                "invalid value \"monday\" in the day-of-week field",
            ),
            (
                "* * * * 1#2",
                "invalid value \"1#2\" in the day-of-week field",
            ),
            (
                "* * * * jan",
                "invalid value \"jan\" in the day-of-week field",
            ),
            ("*/0 * * * *", "invalid step \"0\" in the minute field"),
            ("*/ * * * *", "invalid step \"\" in the minute field"),
            ("*/+5 * * * *", "invalid step \"+5\" in the minute field"),
            ("*/2/3 * * * *", "invalid step \"2/3\" in the minute field"),
            (
                "10-5 * * * *",
                "range \"10-5\" in the minute field runs backwards",
            ),
            ("@reboot", "schedule name \"@reboot\" is not known"),
            (
                "caf\u{e9} * * * *",
                "invalid value \"caf?\" in the minute field",
            ),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
        assert!(message(&"* ".repeat(2000)).contains("longer than"));
    }

    #[test]
    fn every_error_has_a_hint() {
        for text in [
            "",
            "* *",
            "@x",
            "99 * * * *",
            "x * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
        ] {
            let hint = parse(text).unwrap_err().hint();
            assert!(
                hint.ends_with('.') && hint.starts_with(char::is_uppercase),
                "{hint}"
            );
        }
    }

    #[test]
    fn no_text_panics() {
        let mut rng = Rng::new(5);
        let parts = [
            "*", "/", "-", ",", "?", "L", "7", "59", "jan", "sun", " ", "\u{e9}", "@",
        ];
        for _ in 0..100_000 {
            let length = rng.range(0, 20);
            let text: String = (0..length).map(|_| *rng.pick(&parts)).collect();
            if let Err(error) = parse(&text) {
                assert!(!error.to_string().is_empty() && !error.hint().is_empty());
            }
        }
    }
}
