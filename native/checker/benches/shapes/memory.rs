//! What this process holds, from the kernel; 0 where it does not tell.

/// The largest resident size since the last [`forget_peak`], in MiB.
pub fn peak_mib() -> u64 {
    status_kib("VmHWM") >> 10
}

/// Begins a new peak; what is held now, in MiB.
pub fn forget_peak() -> u64 {
    // Not everywhere permitted; then the peak is that of the process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    status_kib("VmRSS") >> 10
}

fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let figure = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    figure.unwrap_or_default()
}
