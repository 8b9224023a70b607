//! Small files that processes map, for notes that outlive a crash of the server: a store to such memory
//! the kernel keeps when the process dies.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

/// Maps a file of so many bytes, made if it is not there, for the life of the process. The working
/// directory of every server process is the data directory.
pub(super) fn map(path: &str, length: usize) -> std::io::Result<*mut u8> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.set_len(length as u64)?;
    // SAFETY: a fresh mapping of a file of that length; it stays for the life of the process.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    Ok(address.cast())
}
