//! Whom to wake.

/// A process that is to be woken once the lock is released, or nobody. Whoever gets one passes it on, to
/// `shared::wake` in the end: a wake-up that is dropped is work that nobody looks at.
#[must_use = "a wake-up that is dropped is lost: pass it to shared::wake"]
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wake(Option<i32>);

impl Wake {
    /// Nobody need be woken.
    pub const NOBODY: Wake = Wake(None);

    /// The process that is reached by this number.
    pub fn process(procno: i32) -> Wake {
        Wake(Some(procno))
    }

    /// The number by which the process is reached, for whoever wakes it.
    pub fn procno(self) -> Option<i32> {
        self.0
    }

    /// It, unless it is nobody.
    pub fn some(self) -> Option<Wake> {
        self.0.map(Wake::process)
    }

    /// Wakes nobody, since the process that it names is awake, and sees what it would be woken for.
    pub fn is_awake(self) {}
}

impl From<Option<i32>> for Wake {
    fn from(procno: Option<i32>) -> Wake {
        Wake(procno)
    }
}
