//! Processes by pid, and files that hold a pid.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub use rustix::process::{Pid, Signal};

/// Reads a pid file.
pub fn read_pid(path: &Path) -> Result<Pid> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let number = text.trim().parse().with_context(|| path.display().to_string())?;
    Pid::from_raw(number).with_context(|| format!("{}: {number} is no pid", path.display()))
}

/// Sends a signal.
pub fn signal(pid: Pid, signal: Signal) -> Result<()> {
    rustix::process::kill_process(pid, signal).with_context(|| format!("sending {signal:?} to process {}", pid.as_raw_pid()))
}

/// Whether a process runs or is stopped. A process that has ended does not exist any more, even if its parent has not noticed yet.
pub fn exists(pid: Pid) -> bool {
    if matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)) {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state comes after the name, which may contain parentheses.
    !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

/// Waits until the condition holds, and checks it every 20 ms.
pub fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > within {
            bail!("waited {} s in vain until {what}", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether some process holds the lock on this file.
pub(crate) fn locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    // If the lock is acquired, it is released with the file handle.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
