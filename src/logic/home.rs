//! What a database was when its home was written down, and what has become of it since.
//!
//! - The same server and database: nothing has happened. A standby and its promotion are the same server.
//! - Another database: it was made by CREATE DATABASE ... TEMPLATE.
//! - Another server, by its system identifier: pg_upgrade has made the catalogs anew, so the extension has
//!   other OIDs or the server another major version; or the files were copied as they are
//!   (pg_createsubscriber).

/// What became of the database since its home was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// pg_upgrade has moved it to another server.
    Upgraded,
    /// Its files were copied.
    Copied,
}

/// What a database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The system identifier of the server.
    pub system: u64,
    /// The OID of the extension, which pg_upgrade changes.
    pub extension: u32,
    /// The OID of its first function, which pg_upgrade changes, too.
    pub caller: u32,
    /// The major version of the server.
    pub major: u32,
    /// The OID of the database, which pg_upgrade keeps.
    pub database: u32,
}

impl Identity {
    /// As it is written down.
    pub fn text(&self) -> String {
        let Identity {
            system,
            extension,
            caller,
            major,
            database,
        } = self;
        format!("{system} {extension} {caller} {major} {database}")
    }

    fn read(mut words: impl Iterator<Item = u64>) -> Option<Self> {
        let system = words.next()?;
        let mut oid = || words.next().and_then(|word| u32::try_from(word).ok());
        Some(Identity {
            system,
            extension: oid()?,
            caller: oid()?,
            major: oid()?,
            database: oid()?,
        })
    }

    /// What has happened since it was `then`.
    pub fn moved_since(&self, then: &Identity) -> Option<Moved> {
        if self.database != then.database {
            return Some(Moved::Copied);
        }
        if self.system == then.system {
            return None;
        }
        let has_same_catalogs =
            (self.extension, self.caller, self.major) == (then.extension, then.caller, then.major);
        Some(match has_same_catalogs {
            true => Moved::Copied,
            false => Moved::Upgraded,
        })
    }
}

/// Reads `SELECT 'home system extension caller major database'`.
pub fn parse(body: &[u8]) -> Option<(i64, Identity)> {
    let text = std::str::from_utf8(body).ok()?;
    let quoted = text.split('\'').nth(1)?;
    let mut words = quoted.split(' ').map_while(|word| word.parse::<u64>().ok());
    let home = i64::try_from(words.next()?).ok()?;
    Some((home, Identity::read(words)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Identity = Identity {
        system: 7_640_000_000_000_000_001,
        extension: 16_384,
        caller: 16_387,
        major: 15,
        database: 5,
    };

    #[test]
    fn a_standby_and_a_renamed_database_have_not_moved() {
        assert_eq!(THEN.moved_since(&THEN), None);
    }

    #[test]
    fn another_database_is_a_copy_on_any_server() {
        let template = Identity {
            database: 6,
            ..THEN
        };
        assert_eq!(template.moved_since(&THEN), Some(Moved::Copied));
        let both = Identity {
            system: 8,
            major: 16,
            ..template
        };
        assert_eq!(both.moved_since(&THEN), Some(Moved::Copied));
    }

    #[test]
    fn pg_upgrade_makes_the_catalogs_anew() {
        let other = Identity { system: 8, ..THEN };
        assert_eq!(other.moved_since(&THEN), Some(Moved::Copied));
        for upgraded in [
            Identity {
                extension: 16_390,
                ..other
            },
            Identity {
                caller: 16_430,
                ..other
            },
            Identity { major: 16, ..other },
        ] {
            assert_eq!(upgraded.moved_since(&THEN), Some(Moved::Upgraded));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let body = format!("RETURN '123456789012 {}'", THEN.text());
        assert_eq!(parse(body.as_bytes()), Some((123_456_789_012, THEN)));
    }

    #[test]
    fn what_nobody_wrote_is_no_home() {
        for body in [
            "",
            "RETURN ''",
            "RETURN '1 2 3'",
            "RETURN 'x 1 2 3 4 5'",
            "RETURN 1",
        ] {
            assert_eq!(parse(body.as_bytes()), None, "{body}");
        }
        let too_large = format!("RETURN '1 2 {} 4 5 6'", u64::MAX);
        assert_eq!(parse(too_large.as_bytes()), None);
        assert_eq!(parse(b"\xff"), None);
    }
}
