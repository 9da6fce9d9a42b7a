//! What the operator's process uses.

use anyhow::{Context as _, Result};
use pilotage_harness::process::Pid;

/// Clock ticks per second in `/proc`. Linux has used 100 on all architectures for user space since 2.6.
const TICKS: f64 = 100.0;

/// Its resident memory.
pub fn rss_mib(pid: Pid) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the operator's memory")?;
    let kib: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no Rss in smaps_rollup")?
        .parse()?;
    Ok(kib / 1024.0)
}

/// Its peak resident memory since the last reset of the peak.
pub fn peak_mib(pid: Pid) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the operator's memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in status")?;
    let kib: f64 = line.split_whitespace().next().context("no number in VmHWM")?.parse()?;
    Ok(kib / 1024.0)
}

/// Resets the peak in the kernel.
pub fn forget_peak(pid: Pid) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("forgetting the operator's peak of memory")
}

/// The processor time that it has used.
pub fn cpu_ms(pid: Pid) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the operator's processor time")?;
    // The name may contain spaces. The state is the first word after it, utime and stime are the 12th and 13th.
    let rest = stat.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let (user, system): (f64, f64) = (fields.get(11).context("utime")?.parse()?, fields.get(12).context("stime")?.parse()?);
    Ok((user + system) * 1000.0 / TICKS)
}
