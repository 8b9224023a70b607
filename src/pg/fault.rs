//! Faults on purpose, for the tests.
//!
//! `fault!(Marked)` names a point of the code. In a build with the feature `faults` a test can have it do one of these
//! things there: fail with an ERROR, panic, end the process by FATAL, kill the process, wait, or nap for a tenth of a second. In every other build
//! the point is nothing: the macro expands to no code at all, and neither the setting-up nor the list of points exists.
//!
//! `fault_here!(Waking)` is for places where nothing may be raised: hooks at the end of a transaction or a process. There
//! a point can panic, kill the process, wait or nap.

/// A point at which a test can have the function fail. In a function that returns a `Result`.
macro_rules! fault {
    ($point:ident) => {
        #[cfg(feature = "faults")]
        $crate::pg::fault::at($crate::pg::fault::Point::$point)?;
    };
}

/// A point where nothing may be raised.
macro_rules! fault_here {
    ($point:ident) => {
        #[cfg(feature = "faults")]
        $crate::pg::fault::here($crate::pg::fault::Point::$point);
    };
}

pub(crate) use {fault, fault_here};

#[cfg(feature = "faults")]
mod armed;
#[cfg(feature = "faults")]
pub use armed::*;
