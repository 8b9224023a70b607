//! What a job leaves in its process that cannot be taken away, such as a connection to another
//! server: the process ends then.
//!
//! The dynamic loader counts what it has loaded, and the count is had without a look at the libraries;
//! they are looked through when it has changed.

/// Whether a library has been loaded since the first call that keeps such things. Some 50 ns.
#[cfg(not(target_os = "linux"))]
pub fn is_stained() -> bool {
    false
}

#[cfg(target_os = "linux")]
pub use loader::is_stained;

#[cfg(target_os = "linux")]
mod loader {
    use std::ffi::CStr;
    use std::ptr;

    use libc::{c_int, c_void, dl_phdr_info, size_t};

    use crate::pg::local::Local;

    /// Clients of other servers, and modules with a state of their own: how their names begin.
    const KEEPERS: [&str; 11] = [
        "libpq.so",
        "dblink.so",
        "postgres_fdw.so",
        "isn.so",
        "libmysqlclient.so",
        "libmariadb.so",
        "libclntsh.so",
        "libodbc.so",
        "libsybdb.so",
        "libmongoc",
        "libhiredis.so",
    ];

    /// One walk over the libraries of this process.
    struct Look {
        /// As the loader counts.
        loaded: u64,
        /// Whether it goes through all of them.
        through: bool,
        /// How many of the keepers it has met.
        found: u32,
    }

    /// What the walks before have found.
    #[derive(Clone, Copy)]
    struct Known {
        loaded: u64,
        /// The keepers that were there at the first call, which is made before any job.
        first: Option<u32>,
        stained: bool,
    }

    static KNOWN: Local<Known> = Local::new(Known {
        loaded: 0,
        first: None,
        stained: false,
    });

    /// Whether a library has been loaded since the first call that keeps such things. Some 50 ns.
    pub fn is_stained() -> bool {
        let known = KNOWN.get();
        let loaded = look(false).loaded;
        if loaded == known.loaded {
            return known.stained;
        }
        let found = look(true).found;
        let first = known.first.unwrap_or(found);
        let stained = known.stained || found > first;
        KNOWN.set(Known {
            loaded,
            first: Some(first),
            stained,
        });
        stained
    }

    fn look(through: bool) -> Look {
        let mut look = Look {
            loaded: 0,
            through,
            found: 0,
        };
        // SAFETY: `visit` takes what it is passed here for a Look, which outlives the walk.
        unsafe { libc::dl_iterate_phdr(Some(visit), ptr::from_mut(&mut look).cast::<c_void>()) };
        look
    }

    /// Told of one library; an answer other than 0 ends the walk.
    unsafe extern "C" fn visit(info: *mut dl_phdr_info, _: size_t, look: *mut c_void) -> c_int {
        // SAFETY: the loader passes a library that it describes, with a terminated name, and the Look.
        let (info, look) = unsafe { (&*info, &mut *look.cast::<Look>()) };
        look.loaded = info.dlpi_adds;
        if !look.through {
            return 1;
        }
        // SAFETY: as above.
        let path = unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        if KEEPERS
            .iter()
            .any(|keeper| name.starts_with(keeper.as_bytes()))
        {
            look.found += 1;
        }
        0
    }
}
