//! libpq's words for TLS in a connection string: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`. The client of
//! PostgreSQL that we use knows less of them than libpq, so these four are taken out before it reads the string.

use crate::pgenv::Env;

/// The four settings, as the connection string has them.
#[derive(Debug, Default, PartialEq)]
pub struct Given {
    pub mode: Option<String>,
    pub root: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
}

impl Given {
    /// These two alone.
    #[cfg(test)]
    pub fn of(mode: &str, root: &str) -> Self {
        Given {
            mode: Some(mode.to_owned()),
            root: Some(root.to_owned()),
            ..Given::default()
        }
    }

    fn take(&mut self, name: &str, value: String) -> bool {
        let place = match name {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ => return false,
        };
        *place = Some(value);
        true
    }

    /// What the string leaves open, the environment says.
    pub fn or(mut self, env: Env) -> Self {
        self.mode = self.mode.or_else(|| env("PGSSLMODE"));
        self.root = self.root.or_else(|| env("PGSSLROOTCERT"));
        self.certificate = self.certificate.or_else(|| env("PGSSLCERT"));
        self.key = self.key.or_else(|| env("PGSSLKEY"));
        self
    }
}

/// Parts the four settings from the rest of a connection string: `name=value` words, or a URI.
pub fn part(connection: &str) -> (String, Given) {
    let mut given = Given::default();
    if connection.starts_with("postgres://") || connection.starts_with("postgresql://") {
        let Some((head, query)) = connection.split_once('?') else {
            return (connection.to_owned(), given);
        };
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| match pair.split_once('=') {
                Some((name, value)) => !given.take(name, decoded(value)),
                None => true,
            })
            .collect();
        let mark = if kept.is_empty() { "" } else { "?" };
        return (format!("{head}{mark}{}", kept.join("&")), given);
    }
    let kept: Vec<&str> = words(connection)
        .into_iter()
        .filter(|word| match word.split_once('=') {
            Some((name, value)) => !given.take(name.trim(), unquoted(value.trim())),
            None => true,
        })
        .collect();
    (kept.join(" "), given)
}

/// The `name = 'value'` of a string, each as it stands there.
fn words(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = word_end(rest);
        let (word, behind) = rest.split_at(end);
        found.push(word);
        rest = behind.trim_start();
    }
    found
}

/// Where the first word ends: space may stand around its `=` and within quotes.
fn word_end(text: &str) -> usize {
    let Some(equals) = text.find('=') else {
        return text.len();
    };
    let (mut quoted, mut escaped, mut begun) = (false, false, false);
    for (at, letter) in text.char_indices().filter(|(at, _)| *at > equals) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => quoted = !quoted,
            _ if letter.is_whitespace() && begun && !quoted => return at,
            _ => {}
        }
        begun |= !letter.is_whitespace();
    }
    text.len()
}

fn unquoted(value: &str) -> String {
    let inner = value
        .strip_prefix('\'')
        .and_then(|v| v.strip_suffix('\''))
        .unwrap_or(value);
    let mut letters = inner.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.extend(letters.next()),
            other => text.push(other),
        }
    }
    text
}

/// A value of a URI: `%2F` is a slash.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let code = behind
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_tls_are_parted_from_the_others() {
        let (rest, found) = part(
            "host=h sslmode = verify-full  password='a sslmode=b\\' c' sslrootcert='/a b/r\\'.crt' user=u",
        );
        assert_eq!(rest, "host=h password='a sslmode=b\\' c' user=u");
        assert_eq!(found, Given::of("verify-full", "/a b/r'.crt"));
        assert_eq!(
            part("host=h user=u"),
            ("host=h user=u".to_owned(), Given::default())
        );
    }

    #[test]
    fn so_are_those_of_a_uri() {
        let (rest, found) =
            part("postgresql://u@h/d?sslmode=verify-ca&connect_timeout=2&sslrootcert=%2Fa%20b");
        assert_eq!(rest, "postgresql://u@h/d?connect_timeout=2");
        assert_eq!(found, Given::of("verify-ca", "/a b"));
        assert_eq!(part("postgres://h/d?sslmode=disable").0, "postgres://h/d");
    }
}
