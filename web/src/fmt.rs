//! Numbers and times in words.

use maud::{Markup, html};

/// 1234567 as 1,234,567.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count that the role may not see is a dash.
pub fn maybe_count(number: Option<i64>) -> String {
    number.map_or_else(|| "–".to_owned(), count)
}

/// A count that may be an estimate, which then says so.
pub fn maybe_estimate(number: Option<i64>, estimated: bool) -> Markup {
    match number {
        Some(number) if estimated => {
            html! { span title="an estimate, nearly always within 1 %" { "~" (count(number)) } }
        }
        number => html! { (maybe_count(number)) },
    }
}

/// Milliseconds as 0.4 ms, 12 ms, 3.4 s, 5 min.
pub fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 9_950.0 => format!("{:.1} s", ms / 1000.0),
        ms => seconds(ms / 1000.0),
    }
}

pub fn maybe_millis(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), millis)
}

/// Seconds in the largest unit that fits: 12 s, 5 min, 3 h, 20 d. The script app.js says the same.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "for ever".to_owned(),
        s if s < 119.5 => format!("{:.0} s", s.max(0.0)),
        s if s < 7_170.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_000.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

pub fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |past| past.as_secs_f64())
}

/// A moment in relation to now; the script keeps it current.
pub fn moment(at: f64) -> Markup {
    let distance = at - now();
    let text = if distance > 0.5 {
        format!("in {}", seconds(distance))
    } else {
        format!("{} ago", seconds(-distance))
    };
    html! { time data-at=(format!("{at:.3}")) title=(utc(at)) { (text) } }
}

pub fn maybe_moment(at: Option<f64>) -> Markup {
    match at {
        Some(at) if at.is_finite() => moment(at),
        Some(_) => html! { "never" },
        None => html! { "–" },
    }
}

/// How long since then; the script keeps it current.
pub fn since(at: f64) -> Markup {
    html! { time data-since=(format!("{at:.3}")) title=(utc(at)) { (seconds(now() - at)) } }
}

/// A moment as ISO 8601 in UTC. The script shows it in the viewer's zone.
pub fn utc(at: f64) -> String {
    if !at.is_finite() {
        return "never".to_owned();
    }
    let (days, rest) = ((at / 86_400.0).floor(), at.rem_euclid(86_400.0));
    let (year, month, day) = civil(days as i64);
    let second = rest as u32;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The Gregorian date of a day since 1970, by the usual arithmetic of 400-year cycles.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * m + 2) / 5 + 1)
}

/// Text as part of a URL's query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        assert_eq!(
            [0, 999, 1000, 1234567, -1000].map(count),
            ["0", "999", "1,000", "1,234,567", "-1,000"]
        );
    }

    #[test]
    fn times_are_short() {
        assert_eq!(
            [0.04, 9.96, 120.0, 1500.0, 61_000.0].map(millis),
            ["0.0 ms", "10 ms", "120 ms", "1.5 s", "61 s"]
        );
        assert_eq!(
            [3.2, 130.0, 8000.0, 900_000.0].map(seconds),
            ["3 s", "2 min", "2 h", "10 d"]
        );
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0.0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399.5), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_868_800.0), "2000-03-01 00:00:00 UTC");
        assert_eq!(utc(-1.0), "1969-12-31 23:59:59 UTC");
    }

    #[test]
    fn urls_hold_any_text() {
        assert_eq!(encode("a b&c=é"), "a%20b%26c%3D%C3%A9");
    }
}
