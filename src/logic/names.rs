//! Lists of names of databases in a setting.
//!
//! Names are separated by commas; white space around a name does not count. A name is taken as it is
//! written: unlike in SQL, capitals stay capitals without quotes. Names with white space, commas or
//! quotes stand in double quotes, within which a double quote is doubled. Texts are bytes, since the
//! configuration has no encoding; every encoding of a server keeps ASCII bytes for ASCII.

use std::fmt;

/// The longest name that a database can have, in bytes (`NAMEDATALEN` - 1).
const MAX_NAME_BYTES: usize = 63;

/// What a list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// `*` alone.
    All,
    /// These.
    These(Vec<Vec<u8>>),
}

/// Why a list cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// Nothing at all.
    Empty,
    /// Nothing between two commas, or an empty name in quotes.
    EmptyName,
    /// A double quote that is not closed.
    Unclosed,
    /// Text beside a name in double quotes.
    BesideQuotes,
    /// White space or a quote in a name without double quotes.
    NeedsQuotes,
    /// A name that no database can have.
    TooLong,
    /// `*` beside names.
    StarBesideNames,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListError::Empty => "The list of databases is empty.",
            ListError::EmptyName => "The list has an empty name.",
            ListError::Unclosed => "A double quote is not closed.",
            ListError::BesideQuotes => "A name in double quotes has more text beside it.",
            ListError::NeedsQuotes => "A name has white space or quotes in it.",
            ListError::TooLong => "A name is longer than 63 bytes.",
            ListError::StarBesideNames => "\"*\" stands beside other names.",
        })
    }
}

impl ListError {
    /// A sentence for the error's hint.
    pub fn hint(self) -> &'static str {
        match self {
            ListError::Empty => {
                "Name a database, or use * for all that have the extension. \
                 \"my_worker.enabled = off\" runs no jobs."
            }
            ListError::NeedsQuotes => {
                "Put such a name into double quotes, and separate names by commas."
            }
            ListError::StarBesideNames => {
                "Use * alone, or put a database of that name into double quotes."
            }
            _ => "Write it as in: one, \"Other, with a comma\".",
        }
    }
}

/// Takes a list apart.
pub fn parse_list(text: &[u8]) -> Result<Names, ListError> {
    if text.trim_ascii().is_empty() {
        return Err(ListError::Empty);
    }
    let (mut names, mut rest, mut star) = (Vec::new(), Some(text), false);
    while let Some(text) = rest {
        let (name, is_quoted, after) = next_name(text.trim_ascii())?;
        star |= !is_quoted && name == b"*";
        names.push(name);
        rest = after;
    }
    match (star, names.len()) {
        (true, 1) => Ok(Names::All),
        (true, _) => Err(ListError::StarBesideNames),
        _ => Ok(Names::These(names)),
    }
}

/// The first name of a list, whether it is quoted, and what follows its comma. The text begins with
/// no white space.
type Next<'a> = (Vec<u8>, bool, Option<&'a [u8]>);

fn next_name(text: &[u8]) -> Result<Next<'_>, ListError> {
    let (name, is_quoted, after) = match text.strip_prefix(b"\"") {
        Some(inside) => {
            let (name, after) = quoted(inside)?;
            (name, true, after)
        }
        None => {
            let end = text.iter().position(|byte| *byte == b',');
            let (name, after) = text
                .split_at_checked(end.unwrap_or(text.len()))
                .unwrap_or((text, b""));
            (bare(name.trim_ascii())?, false, after)
        }
    };
    if name.is_empty() {
        return Err(ListError::EmptyName);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(ListError::TooLong);
    }
    match after.trim_ascii_start().split_first() {
        None => Ok((name, is_quoted, None)),
        Some((b',', rest)) => Ok((name, is_quoted, Some(rest))),
        Some(_) => Err(ListError::BesideQuotes),
    }
}

/// A name whose opening quote was taken, and what follows its closing one.
fn quoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), ListError> {
    let (mut name, mut rest) = (Vec::new(), text);
    loop {
        match rest {
            [b'"', b'"', after @ ..] => {
                name.push(b'"');
                rest = after;
            }
            [b'"', after @ ..] => return Ok((name, after)),
            [byte, after @ ..] => {
                name.push(*byte);
                rest = after;
            }
            [] => return Err(ListError::Unclosed),
        }
    }
}

fn bare(name: &[u8]) -> Result<Vec<u8>, ListError> {
    let needs_quotes =
        |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b || matches!(byte, b'"' | b'\'');
    if name.iter().any(needs_quotes) {
        return Err(ListError::NeedsQuotes);
    }
    Ok(name.to_vec())
}

/// A database as the list may mean it.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// It accepts connections and is no template.
    pub is_usable: bool,
}

/// The most names that one message lists.
const MAX_LISTED: usize = 10;

/// Says which names stand for no database that can be served, as sentences; empty if all do.
pub fn describe_absent(names: &[Vec<u8>], databases: &[Candidate<'_>]) -> Vec<u8> {
    let found = |name: &[u8]| databases.iter().find(|database| database.name == name);
    let absent: Vec<Vec<u8>> = names
        .iter()
        .filter_map(|name| match found(name) {
            Some(database) if database.is_usable => None,
            Some(_) => Some(sentence(&[
                b"Database ",
                name,
                b" is a template, or does not accept connections.",
            ])),
            None => Some(describe_missing(name, databases)),
        })
        .collect();
    let mut text = absent
        .iter()
        .take(MAX_LISTED)
        .map(Vec::as_slice)
        .collect::<Vec<_>>()
        .join(&b' ');
    if absent.len() > MAX_LISTED {
        let more = absent.len().saturating_sub(MAX_LISTED);
        text.extend(format!(" So it is with {more} more.").into_bytes());
    }
    text
}

/// A name that is there in other letters was most likely meant.
fn describe_missing(name: &[u8], databases: &[Candidate<'_>]) -> Vec<u8> {
    let alike = |database: &&Candidate<'_>| database.name.eq_ignore_ascii_case(name);
    match databases.iter().find(alike) {
        Some(database) => sentence(&[
            b"There is no database ",
            name,
            b", but a database ",
            database.name,
            b": capitals count.",
        ]),
        None => sentence(&[b"There is no database ", name, b"."]),
    }
}

/// Texts and names in turn, the names in quotes.
fn sentence(parts: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if index % 2 == 1 {
            text.push(b'"');
            text.extend_from_slice(part);
            text.push(b'"');
        } else {
            text.extend_from_slice(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        match parse_list(text.as_bytes()) {
            Ok(Names::These(names)) => names
                .into_iter()
                .map(|name| String::from_utf8(name).unwrap())
                .collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn splits_and_trims() {
        assert_eq!(names("postgres"), ["postgres"]);
        assert_eq!(names(" a, B ,c "), ["a", "B", "c"]);
        assert_eq!(names("my-db,x.y,ü"), ["my-db", "x.y", "ü"]);
        assert_eq!(
            names("\"a,b\", \"say \"\"hi\"\"\",\"*\" , \" x \""),
            ["a,b", "say \"hi\"", "*", " x "]
        );
        assert_eq!(parse_list(b" * "), Ok(Names::All));
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for (text, error) in [
            ("", ListError::Empty),
            ("  ", ListError::Empty),
            (",,", ListError::EmptyName),
            ("a,", ListError::EmptyName),
            (",a", ListError::EmptyName),
            ("a, ,b", ListError::EmptyName),
            ("\"\"", ListError::EmptyName),
            ("\"a", ListError::Unclosed),
            ("a, \"b", ListError::Unclosed),
            ("\"a\"\"", ListError::Unclosed),
            ("\"a\"b", ListError::BesideQuotes),
            ("\"a\" \"b\"", ListError::BesideQuotes),
            ("a\"b\"", ListError::NeedsQuotes),
            ("a b", ListError::NeedsQuotes),
            ("a\tb", ListError::NeedsQuotes),
            ("'mydb'", ListError::NeedsQuotes),
            ("*, a", ListError::StarBesideNames),
            ("a, *", ListError::StarBesideNames),
            ("*,*", ListError::StarBesideNames),
        ] {
            assert_eq!(parse_list(text.as_bytes()), Err(error), "{text}");
            assert!(error.to_string().ends_with('.') && error.hint().ends_with('.'));
        }
        assert_eq!(parse_list(&[b'x'; 64]), Err(ListError::TooLong));
        assert!(parse_list(&[b'x'; 63]).is_ok());
    }

    #[test]
    fn says_which_names_nobody_has() {
        let here = [("mydb", true), ("template1", false)];
        let here = here.map(|(name, is_usable)| Candidate {
            name: name.as_bytes(),
            is_usable,
        });
        let say = |list: &str| {
            let names = list.split(',').map(|name| name.as_bytes().to_vec());
            String::from_utf8(describe_absent(&names.collect::<Vec<_>>(), &here)).unwrap()
        };
        assert_eq!(say("mydb"), "");
        assert_eq!(say("mydb,mybd"), "There is no database \"mybd\".");
        assert_eq!(
            say("MYDB,template1"),
            "There is no database \"MYDB\", but a database \"mydb\": capitals count. \
             Database \"template1\" is a template, or does not accept connections."
        );
        let many = ["x"; 12].join(",");
        assert!(say(&many).ends_with(" So it is with 2 more."));
    }

    #[test]
    fn no_input_panics() {
        let mut rng = crate::logic::testing::Rng::new(16);
        for _ in 0..100_000 {
            let length = rng.range(0, 12) as usize;
            let text: Vec<u8> = (0..length).map(|_| *rng.pick(b"a\"', *\xfc")).collect();
            if let Ok(Names::These(names)) = parse_list(&text) {
                assert!(names.iter().all(|name| !name.is_empty()));
            }
        }
    }
}
